// Input for the scripts of this folder: GGUF files, and small llama models whose weights are random.
import fs from 'node:fs';

const u32 = (n) => { const b = Buffer.alloc(4); b.writeUInt32LE(n); return b; };
const u64 = (n) => { const b = Buffer.alloc(8); b.writeBigUInt64LE(BigInt(n)); return b; };
const text = (s) => { const b = Buffer.from(s); return Buffer.concat([u64(b.length), b]); };
const number = (size, write) => (n) => { const b = Buffer.alloc(size); b[write](n); return b; };

// Value types by their name: the format's number, and what writes one.
const types = {
    u32: [4, u32], i32: [5, number(4, 'writeInt32LE')], f32: [6, number(4, 'writeFloatLE')],
    bool: [7, (v) => Buffer.from([v ? 1 : 0])], text: [8, text], u64: [10, u64], f64: [12, number(8, 'writeDoubleLE')],
};

// A key; an array's elements are of `type`.
export function key(name, type, value) {
    const [id, put] = types[type];
    return Array.isArray(value) ? Buffer.concat([text(name), u32(9), u32(id), u64(value.length), ...value.map(put)])
                                : Buffer.concat([text(name), u32(id), put(value)]);
}

// A file of version 3. tensors: [name, shape with the innermost dimension first, f32 values]; `place` gives, from
// their sizes in bytes (multiples of 32), where each lies. The data begin at a multiple of `alignment`.
export function write(path, keys, tensors, place, alignment = 32) {
    const data = tensors.map(([, , values]) => {
        const b = Buffer.from(new Float32Array(values).buffer);
        return Buffer.concat([b, Buffer.alloc(-b.length & 31)]);
    });
    let end = 0;
    const offsets = place ? place(data.map((b) => b.length)) : data.map((b) => (end += b.length) - b.length);
    const infos = tensors.map(([name, shape], i) =>
        Buffer.concat([text(name), u32(shape.length), ...shape.map(u64), u32(0), u64(offsets[i])]));
    const head = Buffer.concat([Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(keys.length), ...keys, ...infos]);
    const body = Buffer.alloc(Math.max(0, ...data.map((b, i) => offsets[i] + b.length)));
    data.forEach((b, i) => b.copy(body, offsets[i]));
    fs.writeFileSync(path, Buffer.concat([head, Buffer.alloc(-head.length & (alignment - 1)), body]));
}

// Tokens [text, score, type]: unknown, BOS, EOS, 256 bytes (3 to 258), the space (259), a to h (260 to 267).
export function vocabulary() {
    const rows = [['<unk>', 0, 2], ['<s>', 0, 3], ['</s>', 0, 3]];
    for (let i = 0; i < 256; i++) rows.push([`<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`, 0, 6]);
    for (const c of '\u2581abcdefgh') rows.push([c, -3, 1]);
    return rows;
}

// A model of two layers, 32 wide with four heads. `instead` replaces keys by name (null leaves one out), or adds.
export function model(path, tokens, instead = {}, place) {
    let state = 7;
    const random = (n) => Array.from({length: n}, () => (state = (state * 1103515245 + 12345) % 2 ** 31) / 2 ** 31 - 0.5);
    const tensors = [['token_embd.weight', [32, tokens.length], random(32 * tokens.length)],
                     ['output_norm.weight', [32], Array(32).fill(1)]];
    for (let i = 0; i < 2; i++) {
        for (const n of ['attn_norm', 'ffn_norm']) tensors.push([`blk.${i}.${n}.weight`, [32], Array(32).fill(1)]);
        for (const m of ['attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down'])
            tensors.push([`blk.${i}.${m}.weight`, [32, 32], random(1024)]);
    }
    const keys = {
        'general.architecture': ['text', 'llama'], 'llama.block_count': ['u32', 2], 'llama.context_length': ['u32', 128],
        'llama.embedding_length': ['u32', 32], 'llama.feed_forward_length': ['u32', 32],
        'llama.attention.head_count': ['u32', 4], 'llama.attention.layer_norm_rms_epsilon': ['f32', 1e-5],
        'tokenizer.ggml.model': ['text', 'llama'], 'tokenizer.ggml.tokens': ['text', tokens.map((t) => t[0])],
        'tokenizer.ggml.scores': ['f32', tokens.map((t) => t[1])],
        'tokenizer.ggml.token_type': ['i32', tokens.map((t) => t[2])],
        'tokenizer.ggml.bos_token_id': ['u32', 1], 'tokenizer.ggml.eos_token_id': ['u32', 2],
        'tokenizer.ggml.unknown_token_id': ['u32', 0], ...instead,
    };
    write(path, Object.entries(keys).filter(([, v]) => v).map(([n, v]) => key(n, ...v)), tensors, place);
}

// Prints what was seen; the exit status says whether it is what the script's head states.
export function compare(seen, expected) {
    console.log(seen);
    if (seen === expected) return;
    console.log(`CHANGED; expected:\n${expected}`);
    process.exitCode = 1;
}
