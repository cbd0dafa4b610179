// Masks of the people in a photo with onnxruntime-web. README.md of this folder says how to serve it.

const get = async (name) => (await fetch(`export/${name}`)).arrayBuffer();
const about = JSON.parse(new TextDecoder().decode(await get("metadata.json")));
ort.env.logLevel = "error";
ort.env.wasm.wasmPaths = new URL("node_modules/onnxruntime-web/dist/", document.baseURI).href;
if (about.sampling !== "pixel_centers" || !about.graphs.poses) {
  throw new Error("this example is for networks that read at pixel centres, of poses by MoveNet");
}
const sessions = {};
for (const name of ["poses", "encode", "segment"]) {
  sessions[name] = await ort.InferenceSession.create(await get(`${name}.onnx`));
}
const floats = (values, ...shape) => new ort.Tensor("float32", Float32Array.from(values), shape);

// The photo, fitted into a black square: (1, side, side, 3) uint8.
function letterbox(photo, side) {
  const longest = Math.max(photo.width, photo.height);
  const fit = (n) => Math.max(Math.floor((2 * n * side + longest) / (2 * longest)), 1);
  const [width, height] = [fit(photo.width), fit(photo.height)];
  const canvas = new OffscreenCanvas(side, side).getContext("2d");
  canvas.fillRect(0, 0, side, side);
  canvas.imageSmoothingQuality = "high";
  canvas.drawImage(photo, (side - width) / 2, (side - height) / 2, width, height);
  const colours = canvas.getImageData(0, 0, side, side).data.filter((_, i) => i % 4 < 3);
  return new ort.Tensor("uint8", Uint8Array.from(colours), [1, side, side, 3]);
}

// The probability at a point of a ROI, in cells, between the centres of its cells; 0 outside.
function probabilityAt(roi, side, u, v) {
  if (u < 0 || v < 0 || u > side || v > side) return 0;
  const [x, y] = [u, v].map((c) => Math.min(Math.max(c - 0.5, 0), side - 1));
  const [x0, y0] = [x, y].map((c) => Math.min(Math.floor(c), side - 2));
  const row = (r) => roi[r * side + x0] * (x0 + 1 - x) + roi[r * side + x0 + 1] * (x - x0);
  return row(y0) * (y0 + 1 - y) + row(y0 + 1) * (y - y0);
}

// A number for each pixel of an ImageBitmap: 0 for nobody, 1, 2, ... for the people.
export async function findMasks(photo) {
  const { width, height } = photo;
  const size = floats([height, width], 2);
  const found = await sessions.poses.run({ image: letterbox(photo, about.pose_image_size), size });
  const scores = found.scores.data.filter((score) => score >= about.person_score_threshold);
  const labels = new Uint8Array(width * height);
  if (!scores.length) return { labels, count: 0 };
  const parts = about.parts.length;
  const poses = [];
  for (let i = 0; i < scores.length * parts; i++) {
    const seen = found.part_scores.data[i] >= about.part_score_threshold;
    poses.push(found.points.data[2 * i], found.points.data[2 * i + 1], seen ? 2 : 0);
  }
  const features = await sessions.encode.run({ image: letterbox(photo, about.image_size) });
  const given = { ...features, poses: floats(poses, scores.length, parts, 3), size };
  const { probabilities, matrices } = await sessions.segment.run(given);
  const surest = new Float32Array(width * height);
  const side = probabilities.dims[1];
  scores.forEach((score, person) => {
    const roi = probabilities.data.subarray(person * side * side, (person + 1) * side * side);
    const [a, b, c, d, e, f] = matrices.data.subarray(6 * person, 6 * person + 6);
    // Where the corners of the ROI lie in the photo: nothing of the mask is outside of them.
    const corners = [[0, 0], [side, 0], [0, side], [side, side]].map(([u, v]) => [
      (e * (u - c) - b * (v - f)) / (a * e - b * d),
      (a * (v - f) - d * (u - c)) / (a * e - b * d),
    ]);
    const [left, top] = [0, 1].map((i) => Math.max(Math.floor(Math.min(...corners.map((p) => p[i]))), 0));
    const [right, bottom] = [0, 1].map((i) => Math.ceil(Math.max(...corners.map((p) => p[i]))));
    for (let row = top; row < Math.min(bottom, height); row++) {
      for (let column = left; column < Math.min(right, width); column++) {
        const [x, y, pixel] = [column + 0.5, row + 0.5, row * width + column];
        const probability = probabilityAt(roi, side, a * x + b * y + c, d * x + e * y + f);
        if (probability > 0.5 && probability * score > surest[pixel]) {
          labels[pixel] = person + 1;
          surest[pixel] = probability * score;
        }
      }
    }
  });
  return { labels, count: scores.length };
}
