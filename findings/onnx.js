// Runs one ONNX operator. The scripts of this folder make their models with it, so none holds a model file.
//
// op(name, inputs, outputs, attributes, options) resolves to the list of output tensors.
// An input is [type, dims, values] or null (absent). An output is a type name or null (absent).
// An attribute is an integer, a list of integers, a string, or {float: x}.
// Options: domain and version of the operator set; constant, the indexes of the inputs that the model holds.
const ort = require('onnxruntime-node');

const TYPES = {
  float32: [1, Float32Array], uint8: [2, Uint8Array], int8: [3, Int8Array], int32: [6, Int32Array],
  int64: [7, BigInt64Array], bool: [9, Uint8Array],
};

// The few rules of protobuf that a model needs: a field is a key, then a varint, a float or a counted string.
function varint(value) {
  const out = [];
  let v = BigInt.asUintN(64, BigInt(value));
  for (; v > 127n; v >>= 7n) out.push(Number(v & 127n) | 128);
  return Buffer.from([...out, Number(v)]);
}
const integer = (field, value) => Buffer.concat([varint(field << 3), varint(value)]);
function string(field, value) {
  const body = Buffer.from(value);
  return Buffer.concat([varint((field << 3) | 2), varint(body.length), body]);
}
const message = (field, ...parts) => string(field, Buffer.concat(parts));
function float(field, value) {
  const b = Buffer.alloc(4);
  b.writeFloatLE(value);
  return Buffer.concat([varint((field << 3) | 5), b]);
}

function attribute(name, value) {
  let body;
  if (typeof value === 'string') body = [string(4, value), integer(20, 3)];
  else if (Array.isArray(value)) body = [...value.map((x) => integer(8, x)), integer(20, 7)];
  else if (typeof value === 'object') body = [float(2, value.float), integer(20, 1)];
  else body = [integer(3, value), integer(20, 2)];
  return message(5, string(1, name), ...body);
}

// A graph input or output. An output leaves its shape open.
function declaration(field, name, type, dims) {
  const shape = dims ? [message(2, ...dims.map((n) => message(1, integer(1, n))))] : [];
  return message(field, string(1, name), message(2, message(1, integer(1, TYPES[type][0]), ...shape)));
}

async function op(name, inputs, outputs, attributes = {}, { domain = '', version = 21, constant = [] } = {}) {
  const graph = [];
  const feeds = {};
  inputs.forEach((input, i) => {
    if (!input) return;
    const [type, dims, values] = input;
    const data = TYPES[type][1].from(values, type === 'int64' ? BigInt : Number);
    if (constant.includes(i)) {
      graph.push(message(5, ...dims.map((n) => integer(1, n)), integer(2, TYPES[type][0]), string(8, `x${i}`),
        string(9, Buffer.from(data.buffer))));
    } else {
      graph.push(declaration(11, `x${i}`, type, dims));
      feeds[`x${i}`] = new ort.Tensor(type, data, dims);
    }
  });
  outputs.forEach((type, i) => type && graph.push(declaration(12, `y${i}`, type)));
  const node = message(1, ...inputs.map((x, i) => string(1, x ? `x${i}` : '')),
    ...outputs.map((type, i) => string(2, type ? `y${i}` : '')), string(4, name),
    ...Object.entries(attributes).map(([key, value]) => attribute(key, value)), string(7, domain));
  const model = Buffer.concat([integer(1, 10), message(7, node, string(2, 'graph'), ...graph),
    message(8, string(1, domain), integer(2, domain ? 1 : version))]);
  const session = await ort.InferenceSession.create(model, { logSeverityLevel: 3 });
  const result = await session.run(feeds);
  return outputs.map((type, i) => type && result[`y${i}`]);
}

// Prints a label and the values of tensors: -0 and NaN stay visible.
function show(label, ...tensors) {
  const text = (v) => (Object.is(v, -0) ? '-0' : String(v));
  console.log(label, tensors.map((t) => Array.from(t.data, text).join(' ')).join(' | '));
}

module.exports = { op, show };
