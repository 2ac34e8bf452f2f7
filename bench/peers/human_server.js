// Human on its WASM backend, the fastest that npm alone installs, with what emotions need and no
// more; in a process for each processor.
// https://github.com/vladmandic/human/wiki/Backends, https://github.com/vladmandic/human/wiki/Config
const cluster = require('node:cluster');
const { readFile } = require('node:fs/promises');
const http = require('node:http');
const { createRequire } = require('node:module');
const path = require('node:path');

const installed = createRequire(path.join(process.argv[2], 'package.json'));
const packages = path.join(process.argv[2], 'node_modules');

if (cluster.isPrimary) {
  for (let n = 0; n < Number(process.env.PEER_CORES); n++) cluster.fork();
  process.on('SIGINT', () => process.exit());
} else {
  serve();
}

async function serve() {
  const sharp = installed('sharp');
  const home = path.join(packages, '@vladmandic', 'human');
  const { Human } = installed(path.join(home, 'dist', 'human.node-wasm.js'));
  globalThis.fetch = async (url) => new Response(await readFile(path.join(home, 'models', path.basename(url))));
  const off = { enabled: false };
  const human = new Human({
    backend: 'wasm',
    wasmPath: path.join(packages, '@tensorflow', 'tfjs-backend-wasm', 'dist') + path.sep,
    modelBasePath: 'http://models/',
    cacheSensitivity: 0, // pictures are not a film's
    debug: false,
    face: { mesh: off, iris: off, description: off, emotion: { enabled: true, minConfidence: 0 } },
    body: off,
    hand: off,
    object: off,
    gesture: off,
    filter: off,
  });
  await human.load();

  async function found(pixels) {
    const result = await human.detect(pixels);
    if (result.error) throw new Error(result.error);
    return result.face.map((face) =>
      Object.fromEntries(face.emotion.map(({ emotion, score }) => [emotion, score])));
  }

  // Small pictures are one face already, for which Human has no option: as its src/gear/emotion.ts.
  function whole(pixels) {
    return human.tf.tidy(() => {
      const grey = human.tf.mean(human.tf.image.resizeBilinear(pixels, [64, 64]), 2, true);
      const scaled = human.tf.sub(human.tf.div(grey, 127.5), 1);
      const scores = human.models.models.emotion.execute(human.tf.expandDims(scaled)).dataSync();
      const names = ['angry', 'disgust', 'fear', 'happy', 'sad', 'surprise', 'neutral'];
      return [Object.fromEntries(names.map((name, n) => [name, scores[n]]))];
    });
  }

  async function answer(request) {
    const parts = [];
    for await (const part of request) parts.push(part);
    const { data, info } = await sharp(Buffer.concat(parts))
      .toColourspace('srgb').removeAlpha().raw().toBuffer({ resolveWithObject: true });
    const pixels = human.tf.tensor3d(data, [info.height, info.width, info.channels], 'int32');
    const before = turn;
    let done;
    turn = new Promise((resolve) => { done = resolve; }); // it takes one picture at a time
    await before;
    try {
      return await (Math.max(info.width, info.height) <= 64 ? whole : found)(pixels);
    } finally {
      pixels.dispose();
      done();
    }
  }

  let turn = Promise.resolve();
  const server = http.createServer(async (request, response) => {
    try {
      const faces = request.method === 'POST' ? await answer(request) : [];
      response.setHeader('Content-Type', 'application/json').end(JSON.stringify(faces));
    } catch (error) {
      response.writeHead(500).end(String(error));
    }
  });
  server.keepAliveTimeout = 60000;
  server.listen(Number(process.env.PEER_PORT), '127.0.0.1');
}
