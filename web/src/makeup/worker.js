// Makes up photos beside the page. A message: { face, look }; `face` is what `Face` takes, { photo, labels, names }, and
// absent if it is that of the message before. The answer: { data, notes }, see `Face.apply`, or { problem }.

import { Face } from "./makeup.js";

let current;

self.onmessage = ({ data: { face, look } }) => {
  try {
    if (face) current = new Face(face.photo, face.labels, face.names);
    const result = current.apply(look);
    self.postMessage(result, [result.data.buffer]);
  } catch (error) {
    current = null;
    self.postMessage({ problem: error.message ?? String(error) });
  }
};
