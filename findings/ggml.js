// Calls ggml in the npm package @node-llama-cpp/linux-x64, without its header, for this folder's scripts.
//
// f32(dims, values) makes a tensor, innermost dimension first.
// run(name, types, ...arguments) builds the operator ggml_NAME, computes it on one thread and gives its float
// values. The types are those of its C parameters after the context; TENSOR is one of them.
// i32 does the same for an operator whose result holds int32.
const koffi = require('koffi');

const TENSOR = 'void *';
const bins = `${__dirname}/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64`;
// One CPU level, that of AVX2, gives the same bits on each machine.
const files = ['libggml-base.so', 'libggml-cpu-haswell.so'];
const libraries = files.map((file) => koffi.load(`${bins}/${file}`, { global: true }));

function ggml(name, result, types) {
  for (const library of libraries) {
    try {
      return library.func(`ggml_${name}`, result, types);
    } catch {
      // The other library has it.
    }
  }
  throw new Error(`no ggml_${name}`);
}

const Parameters = koffi.struct({ size: 'size_t', memory: 'void *', no_alloc: 'bool' });
const getData = ggml('get_data', TENSOR, [TENSOR]);
const byteCount = ggml('nbytes', 'size_t', [TENSOR]);
const newGraph = ggml('new_graph', TENSOR, [TENSOR]);
const newTensor = ggml('new_tensor', TENSOR, [TENSOR, 'int', 'int', 'int64_t *']);
const expand = ggml('build_forward_expand', 'void', [TENSOR, TENSOR]);
const compute = ggml('graph_compute_with_ctx', 'int', [TENSOR, TENSOR, 'int']);
// A direct convolution alone takes 16 MiB of work memory.
const context = ggml('init', TENSOR, [Parameters])({ size: 128 << 20, memory: null, no_alloc: false });

function f32(dims, values) {
  const tensor = newTensor(context, 0, dims.length, BigInt64Array.from(dims, BigInt));
  koffi.encode(getData(tensor), koffi.array('float', values.length), values);
  return tensor;
}

function result(element, size, name, types, values) {
  const tensor = ggml(name, TENSOR, [TENSOR, ...types])(context, ...values);
  const graph = newGraph(context);
  expand(graph, tensor);
  const status = compute(context, graph, 1);
  if (status !== 0) throw new Error(`ggml_graph_compute gave ${status}`);
  return Array.from(koffi.decode(getData(tensor), koffi.array(element, Number(byteCount(tensor)) / size)));
}
const run = (name, types, ...values) => result('float', 4, name, types, values);
const i32 = (name, types, ...values) => result('int', 4, name, types, values);

module.exports = { TENSOR, f32, run, i32 };
