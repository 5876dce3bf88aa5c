// llama.cpp through node-llama-cpp, quiet, on the CPU.
import {getLlama, LlamaLogLevel} from 'node-llama-cpp';

const said = [];
const llama = await getLlama({gpu: false, build: 'never', progressLogs: false, logLevel: LlamaLogLevel.error,
                              logger: (level, message) => said.push(message.trim())});

// What `use` gives for the loaded model, or what llama.cpp says when it refuses it.
export async function load(path, use) {
    said.length = 0;
    try {
        const model = await llama.loadModel({modelPath: path, gpuLayers: 0});
        const result = await use(model);
        await model.dispose();
        return result;
    } catch (error) {
        // What it logs arrives a little later.
        for (let i = 0; i < 100 && said.length === 0; i++) await new Promise((done) => setTimeout(done, 50));
        await new Promise((done) => setTimeout(done, 300));
        return `refused: ${said[0] ?? error.message}`;
    }
}

// The three likeliest tokens after twenty of the letters, to four decimals.
export async function likeliest(model) {
    const context = await model.createContext({contextSize: 128, flashAttention: false});
    const tokens = [...Array(20).keys()].map((i) => 260 + (i % 8));
    const last = [tokens.pop(), {generateNext: {probabilities: true, options: {temperature: 0}}}];
    const all = await context.getSequence().controlledEvaluate([...tokens, last]);
    await context.dispose();
    return [...all[19].next.probabilities].slice(0, 3).map(([t, p]) => `${t}:${p.toFixed(4)}`).join(' ');
}

export const done = () => llama.dispose();
