#!/usr/bin/env python3
"""Makes the files of this folder: a Llama model of 260,000 weights, trained here, and what it must answer.

    apt-get install python3-numpy python3-torch libopenblas0    # Debian 12: 1.24.2, 1.13.1
    python3 make.py train /tmp/tales.npz           # about 15 minutes on one core; not the same bits everywhere
    python3 make.py write /tmp/tales.npz           # tales-f16.gguf
    python3 make.py answers                        # tokens, texts, logits and routes, from tales-f16.gguf alone

The stories it is trained on are made by the grammar below. The answers come from a forward pass in float64 that shares no
code with Kiln. Variants of the model (other dtypes, experts) are derived from tales-f16.gguf by the rules that
tests/support/tales.c follows too: quantise() and experts() here say the same in numpy.
"""
import random
import struct
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB, CONTEXT = 64, 172, 5, 8, 4, 512, 512
HEAD, EPS, THETA = DIM // HEADS, 1e-5, 10000.0
BOS, EOS, FIRST_BYTE, FIRST_PIECE = 1, 2, 3, 259
STEPS, FIRST = 256, 32  # tokens generated, and positions whose logits are kept
SPACE = "\u2581"

# ---- stories ---------------------------------------------------------------------------------------------------

NAMES = {"he": ["Ben", "Tom", "Max", "Sam", "Leo"], "she": ["Mia", "Anna", "Lily", "Zoe", "Eva"]}
HIS = {"he": "his", "she": "her"}
ANIMALS = ["fox", "duck", "bear", "mouse", "cat", "frog"]
KINDS = ["small", "brown", "old", "funny", "shy"]
PLACES = ["garden", "forest", "river", "hill", "barn", "park"]
THINGS = ["ball", "kite", "boat", "drum", "lamp", "hat"]
COLOURS = ["red", "blue", "green", "yellow"]
FOODS = ["apple", "cake", "pear", "soup"]
FEELINGS = ["happy", "proud", "glad"]


def episode(r, who, name, pet, thing):
    place, food = r.choice(PLACES), r.choice(FOODS)
    his = HIS[who]
    return r.choice([
        f"One day, {name} went to the {place}. {who.capitalize()} wanted to play with {his} {thing}. "
        f"The {pet} came too.",
        f"Then {name} could not find the {thing}. {who.capitalize()} looked in the {place}. "
        f"It was not there. The {pet} said, \"Do not be sad. I will help you.\"",
        f"They looked and looked. At last the {pet} saw the {thing} near the {place}. {name} was so {r.choice(FEELINGS)}.",
        f"The {pet} was hungry. {name} gave it {his} {food}. "
        f"\"Thank you,\" said the {pet}.",
        f"It began to rain. {name} and the {pet} ran to the {place}. They sat down and waited. "
        f"Soon the sun was back.",
        f"{name}'s mom called, \"Come home, {name}!\" But {who} wanted to stay a little longer. "
        f"\"Look at my {thing},\" {who} said.",
        f"In the {place} they met a {r.choice(KINDS)} {r.choice(ANIMALS)}. \"Can I play with you?\" it asked. "
        f"\"Yes,\" said {name}. They all played with the {thing}.",
        f"The {thing} fell into the water. {name} began to cry. The {pet} jumped in and took it out. "
        f"\"You are my best friend,\" said {name}.",
    ])


def story(r):
    who = r.choice(["he", "she"])
    name, pet, thing = r.choice(NAMES[who]), r.choice(ANIMALS), r.choice(THINGS)
    child = {"he": "boy", "she": "girl"}[who]
    parts = [f"Once upon a time, there was a little {child} named {name}. {who.capitalize()} had a "
             f"{r.choice(COLOURS)} {thing}. {HIS[who].capitalize()} friend was a {r.choice(KINDS)} {pet}."]
    while sum(len(p) for p in parts) < 1500:  # more than a context, so that no story ends within one
        parts.append(episode(r, who, name, pet, thing))
    return " ".join(parts)


# ---- vocabulary: pairs joined by how often they meet, scores that fall with their rank ------------------------


def words_of(text):
    return [SPACE + w for w in text.split(" ")]


def make_pieces(stories):
    counts = {}
    for text in stories:
        for word in words_of(text):
            counts[word] = counts.get(word, 0) + 1
    splits = {word: list(word) for word in counts}
    characters = sorted({c for word in counts for c in word})
    pieces = []
    while len(pieces) + len(characters) < VOCAB - FIRST_PIECE:
        pairs = {}
        for word, split in splits.items():
            for pair in zip(split, split[1:]):
                pairs[pair] = pairs.get(pair, 0) + counts[word]
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        pieces.append("".join(best))
        for word, split in splits.items():
            splits[word] = join(split, pieces[-1])
    fill = [chr(c) for c in range(33, 127) if chr(c) not in characters]
    return pieces + characters + fill[:VOCAB - FIRST_PIECE - len(pieces) - len(characters)]


def join(split, piece):
    out = []
    for s in split:
        if out and out[-1] + s == piece:
            out[-1] = piece
        else:
            out.append(s)
    return out


def encode(text, pieces, cache):
    rank = {p: i for i, p in enumerate(pieces)}
    out = []
    for word in words_of(text):
        if word not in cache:
            split = list(word)
            while True:
                best = min((rank.get(a + b, VOCAB), i) for i, (a, b) in enumerate(zip(split, split[1:]))) \
                    if len(split) > 1 else (VOCAB, 0)
                if best[0] == VOCAB:
                    break
                split[best[1]:best[1] + 2] = [split[best[1]] + split[best[1] + 1]]
            cache[word] = [FIRST_PIECE + rank[s] for s in split]
        out += cache[word]
    return out


# ---- training ------------------------------------------------------------------------------------------------


def shapes():
    kv = KV_HEADS * HEAD
    s = {"token_embd": (VOCAB, DIM), "output_norm": (DIM,)}
    for i in range(LAYERS):
        b = f"blk.{i}."
        s |= {b + "attn_norm": (DIM,), b + "attn_q": (DIM, DIM), b + "attn_k": (kv, DIM), b + "attn_v": (kv, DIM),
              b + "attn_output": (DIM, DIM), b + "ffn_norm": (DIM,), b + "ffn_gate": (HIDDEN, DIM),
              b + "ffn_up": (HIDDEN, DIM), b + "ffn_down": (DIM, HIDDEN)}
    return s


def train(path, steps=900, batch=4, length=256):
    import torch
    import torch.nn.functional as F
    torch.manual_seed(1)
    torch.set_num_threads(1)
    r = random.Random(1)
    stories = [story(r) for _ in range(3000)]
    pieces, cache = make_pieces(stories), {}
    rows = np.array([[BOS] + encode(s, pieces, cache)[:length] for s in stories], dtype=np.int64)
    print(len(pieces), "pieces,", rows.shape, "tokens")
    w = {n: torch.nn.Parameter(torch.ones(s) if len(s) == 1 else torch.randn(s) * 0.08) for n, s in shapes().items()}
    turn = np.arange(length)[:, None] * THETA ** (-np.arange(0, HEAD, 2) / HEAD)[None]
    cos, sin = torch.tensor(np.cos(turn)).float()[:, None], torch.tensor(np.sin(turn)).float()[:, None]

    def norm(x, g):
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + EPS) * g

    def rope(x):
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)

    mask = torch.full((length, length), float("-inf")).triu(1)

    def logits(tokens):
        x = w["token_embd"][tokens]
        n, t = tokens.shape
        for i in range(LAYERS):
            b = f"blk.{i}."
            h = norm(x, w[b + "attn_norm"])
            q = rope((h @ w[b + "attn_q"].T).view(n, t, HEADS, HEAD)).transpose(1, 2)
            k = rope((h @ w[b + "attn_k"].T).view(n, t, KV_HEADS, HEAD)).repeat_interleave(HEADS // KV_HEADS, 2).transpose(1, 2)
            v = (h @ w[b + "attn_v"].T).view(n, t, KV_HEADS, HEAD).repeat_interleave(HEADS // KV_HEADS, 2).transpose(1, 2)
            a = torch.softmax(q @ k.transpose(2, 3) / HEAD ** 0.5 + mask, -1) @ v
            x = x + a.transpose(1, 2).reshape(n, t, DIM) @ w[b + "attn_output"].T
            h = norm(x, w[b + "ffn_norm"])
            x = x + (F.silu(h @ w[b + "ffn_gate"].T) * (h @ w[b + "ffn_up"].T)) @ w[b + "ffn_down"].T
        return norm(x, w["output_norm"]) @ w["token_embd"].T

    optimizer = torch.optim.AdamW(w.values(), lr=4e-3, betas=(0.9, 0.95), weight_decay=0.01)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1, (step + 1) / 100) * (0.5 + 0.5 * np.cos(np.pi * step / steps)) + 1e-5
        chosen = torch.tensor(rows[np.random.RandomState(step).randint(0, len(rows), batch)])
        loss = F.cross_entropy(logits(chosen[:, :-1]).flatten(0, 1), chosen[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(w.values(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == steps - 1:
            print(step, round(loss.item(), 4), flush=True)
    np.savez(path, pieces=np.array(pieces), **{n: p.detach().numpy() for n, p in w.items()})


# ---- GGUF ------------------------------------------------------------------------------------------------------

U32, I32, F32, STRING, ARRAY = 4, 5, 6, 8, 9


def text(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def key(name, kind, value):
    head = text(name) + struct.pack("<I", kind)
    if kind == STRING:
        return head + text(value)
    if kind == ARRAY:
        inner, items = value
        head += struct.pack("<IQ", inner, len(items))
        return head + b"".join(text(i) if inner == STRING else struct.pack("<f" if inner == F32 else "<i", i) for i in items)
    return head + struct.pack("<f" if kind == F32 else "<I", value)


def write(path):
    saved = np.load(path)
    pieces = [str(p) for p in saved["pieces"]]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)] + pieces
    types = [2, 3, 3] + [6] * 256 + [1] * len(pieces)
    scores = [0.0] * FIRST_PIECE + [-float(i) for i in range(len(pieces))]
    assert len(tokens) == VOCAB
    keys = [key("general.architecture", STRING, "llama"), key("general.name", STRING, "kiln-tales")]
    for name, value in (("context_length", CONTEXT), ("embedding_length", DIM), ("block_count", LAYERS),
                        ("feed_forward_length", HIDDEN), ("attention.head_count", HEADS),
                        ("attention.head_count_kv", KV_HEADS), ("rope.dimension_count", HEAD), ("vocab_size", VOCAB)):
        keys.append(key("llama." + name, U32, value))
    keys += [key("llama.attention.layer_norm_rms_epsilon", F32, EPS), key("llama.rope.freq_base", F32, THETA),
             key("tokenizer.ggml.model", STRING, "llama"), key("tokenizer.ggml.tokens", ARRAY, (STRING, tokens)),
             key("tokenizer.ggml.scores", ARRAY, (F32, scores)), key("tokenizer.ggml.token_type", ARRAY, (I32, types)),
             key("tokenizer.ggml.bos_token_id", U32, BOS), key("tokenizer.ggml.eos_token_id", U32, EOS),
             key("tokenizer.ggml.unknown_token_id", U32, 0)]
    infos, data = b"", b""
    for name, shape in shapes().items():
        values = saved[name].astype(np.float32 if len(shape) == 1 else np.float16).tobytes()
        infos += text(name + ".weight") + struct.pack("<I", len(shape))
        infos += b"".join(struct.pack("<Q", d) for d in reversed(shape))
        infos += struct.pack("<IQ", 0 if len(shape) == 1 else 1, len(data))
        data += values + b"\0" * (-len(values) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes()), len(keys)) + b"".join(keys) + infos
    (HERE / "tales-f16.gguf").write_bytes(head + b"\0" * (-len(head) % 32) + data)


def read():
    """Weights as float32 and the pieces, from tales-f16.gguf as write() made it."""
    b = (HERE / "tales-f16.gguf").read_bytes()
    at, (n_tensors, n_keys) = 24, struct.unpack_from("<QQ", b, 8)

    def take(fmt):
        nonlocal at
        value, = struct.unpack_from("<" + fmt, b, at)
        at += struct.calcsize("<" + fmt)
        return value

    def string():
        nonlocal at
        n = take("Q")
        at += n
        return b[at - n:at].decode()

    def value(kind):
        if kind == STRING:
            return string()
        if kind == ARRAY:
            inner, n = take("I"), take("Q")
            return [value(inner) for _ in range(n)]
        return take({U32: "I", I32: "i", F32: "f"}[kind])

    keys = {}
    for _ in range(n_keys):
        name = string()
        keys[name] = value(take("I"))
    infos = []
    for _ in range(n_tensors):
        name, n = string(), take("I")
        infos.append((name, [take("Q") for _ in range(n)][::-1], take("I"), take("Q")))
    at += -at % 32
    weights = {}
    for name, shape, kind, offset in infos:
        kind = np.float16 if kind == 1 else np.float32
        weights[name[:-7]] = np.frombuffer(b, kind, int(np.prod(shape)), at + offset).reshape(shape).astype(np.float32)
    return weights, keys["tokenizer.ggml.tokens"]


# ---- variants: what tests/support/tales.c makes of tales-f16.gguf ------------------------------------------

CODEBOOK = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)


def quantise(kind, w):
    """The values that the blocks of a matrix stand for. Rows that are no multiple of 32 stay as they are (f16)."""
    if kind == "f32" or w.ndim == 1 or w.shape[-1] % 32:
        return w
    x = w.reshape(-1, 32)
    one = np.float32(1)
    extreme = np.take_along_axis(x, np.argmax(np.abs(x), axis=1)[:, None], 1)
    scale = {"q8_0": np.abs(extreme) / np.float32(127), "q4_0": extreme / np.float32(-8), "iq4_nl": extreme / np.float32(-127)}[kind]
    step = scale.astype(np.float16).astype(np.float32)
    q = x * np.where(step == 0, 0, one / np.where(step == 0, one, step)).astype(np.float32)
    if kind == "q8_0":
        q = np.clip(np.trunc(q + np.where(q < 0, np.float32(-0.5), np.float32(0.5))), -127, 127)
    elif kind == "q4_0":
        q = np.clip(np.floor(q + np.float32(8.5)), 0, 15) - 8
    else:
        q = CODEBOOK[np.argmin(np.abs(q[..., None] - CODEBOOK), axis=-1)]
    return (q * step).astype(np.float32).reshape(w.shape)


class SplitMix:
    def __init__(self, seed):
        self.state = seed

    def next(self):
        m = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & m
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & m
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & m
        return z ^ (z >> 31)


def routers(n_experts):
    """A router for each layer: 24 random bits a value, in [-1, 1). Experts only reorder hidden units and flip two signs, so the
    function is the dense model's whatever the router says; what the router says is the route."""
    r = SplitMix(n_experts)
    return [np.array([(r.next() >> 40) / 2.0 ** 23 - 1 for _ in range(n_experts * DIM)]).reshape(n_experts, DIM) for _ in range(LAYERS)]


# ---- answers ---------------------------------------------------------------------------------------------------


class Reference:
    """One token at a time, in float64."""

    def __init__(self, weights):
        self.w = {n: v.astype(np.float64) for n, v in weights.items()}
        self.keys = [[] for _ in range(LAYERS)]
        self.values = [[] for _ in range(LAYERS)]
        self.ffn_inputs = []

    @staticmethod
    def norm(x, g):
        return x / np.sqrt(np.mean(x * x) + EPS) * g

    @staticmethod
    def rope(x, position):
        turn = position * THETA ** (-np.arange(0, HEAD, 2) / HEAD)
        a, b = x[:, 0::2], x[:, 1::2]
        return np.stack([a * np.cos(turn) - b * np.sin(turn), a * np.sin(turn) + b * np.cos(turn)], -1).reshape(x.shape)

    def step(self, token, position):
        w, x, inputs = self.w, self.w["token_embd"][token], []
        for i in range(LAYERS):
            b = f"blk.{i}."
            h = self.norm(x, w[b + "attn_norm"])
            q = self.rope((w[b + "attn_q"] @ h).reshape(HEADS, HEAD), position)
            self.keys[i].append(self.rope((w[b + "attn_k"] @ h).reshape(KV_HEADS, HEAD), position))
            self.values[i].append((w[b + "attn_v"] @ h).reshape(KV_HEADS, HEAD))
            k = np.repeat(np.array(self.keys[i]), HEADS // KV_HEADS, axis=1)
            v = np.repeat(np.array(self.values[i]), HEADS // KV_HEADS, axis=1)
            s = np.einsum("hd,thd->ht", q, k) / np.sqrt(HEAD)
            p = np.exp(s - s.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            x = x + w[b + "attn_output"] @ np.einsum("ht,thd->hd", p, v).reshape(DIM)
            h = self.norm(x, w[b + "ffn_norm"])
            inputs.append(h)
            gate = w[b + "ffn_gate"] @ h
            x = x + w[b + "ffn_down"] @ (gate / (1 + np.exp(-gate)) * (w[b + "ffn_up"] @ h))
        self.ffn_inputs.append(inputs)
        return w["token_embd"] @ self.norm(x, w["output_norm"])


def answers():
    weights, tokens = read()
    for kind in ("f32", "q8_0", "q4_0", "iq4_nl"):
        model = Reference({n: quantise(kind, v) for n, v in weights.items()})
        path, logits, margin = [BOS], [], np.inf
        for position in range(STEPS):
            logits.append(model.step(path[-1], position))
            best = np.argsort(-logits[-1], kind="stable")[:2]
            margin = min(margin, logits[-1][best[0]] - logits[-1][best[1]])
            path.append(int(best[0]))
        assert BOS not in path[1:] and EOS not in path[1:]
        said = "".join(tokens[t] for t in path[1:]).replace(SPACE, " ")
        (HERE / f"{kind}.greedy.tokens").write_text(" ".join(map(str, path)) + "\n")
        (HERE / f"{kind}.greedy.txt").write_text(said[1:] if said.startswith(" ") else said)
        np.array(logits[:FIRST], np.float32).tofile(HERE / f"{kind}.logits.first32.f32")
        print(f"{kind}: least margin {margin:.4f}, largest logit {np.abs(logits).max():.1f}\n{said[:200]}")
        for n_experts in {"f32": (4,), "q8_0": (8,)}.get(kind, ()):
            lines, least = [], np.inf
            for inputs in model.ffn_inputs:
                for h, router in zip(inputs, routers(n_experts)):
                    s = router @ h
                    order = np.argsort(-s, kind="stable")
                    least = min(least, np.diff(np.sort(s)).min())
                    lines.append(f"{order[0]} {order[1]}\n")
            (HERE / f"{kind}.experts{n_experts}.route.txt").write_text("".join(lines))
            print(f"  {n_experts} experts: least difference of two scores {least:.2g}")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "train":
        train(sys.argv[2])
    elif len(sys.argv) == 3 and sys.argv[1] == "write":
        write(sys.argv[2])
    elif sys.argv[1:] == ["answers"]:
        answers()
    else:
        sys.exit(__doc__)
