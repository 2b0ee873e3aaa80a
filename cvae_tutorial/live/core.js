// Networks, chance, distances and samplers of the live figures: the package's methods with the package's
// settings, for one row of two columns with X0 known. cvae_tutorial/samplers says why each is as it is.

// ---------------------------------------------------------------- networks

/** Read float32 numbers from base 64 with - and _ in place of + and /. */
function unpack(text) {
  const bytes = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  const view = new DataView(new ArrayBuffer(bytes.length));
  for (let i = 0; i < bytes.length; i++) view.setUint8(i, bytes.charCodeAt(i));
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

/** Dense layers with ReLU between them. The number of outputs of each is a multiple of four. */
class Network {
  constructor(layers) {
    this.layers = layers.map(({ kernel, bias }) => {
      const outputs = bias.length, inputs = kernel.length / outputs, blocks = new Float64Array(kernel.length);
      // Four outputs lie side by side, so that four sums run at once.
      for (let i = 0; i < inputs; i++)
        for (let o = 0; o < outputs; o++) blocks[(o >> 2) * 4 * inputs + 4 * i + (o & 3)] = kernel[i * outputs + o];
      return { inputs, outputs, blocks, bias };
    });
    const widest = Math.max(...this.layers.map((l) => Math.max(l.inputs, l.outputs)));
    this.value = new Float64Array(widest);
    this.live = new Float64Array(widest);
    this.place = new Int32Array(widest);
    this.rows = 0; // passed so far
  }

  /** Send `rows` rows of `input` through the network; `output` receives them. */
  run(input, rows, output) {
    const { value, live, place, layers } = this, last = layers.length - 1;
    this.rows += rows;
    for (let r = 0; r < rows; r++) {
      const first = layers[0].inputs;
      for (let i = 0; i < first; i++) value[i] = input[r * first + i];
      for (let l = 0; l <= last; l++) {
        const { inputs, outputs, blocks, bias } = layers[l];
        let count = 0;
        for (let i = 0; i < inputs; i++) if (l === 0 || value[i] > 0) { live[count] = value[i]; place[count++] = 4 * i; }
        for (let o = 0; o < outputs; o += 4) {
          const base = o * inputs;
          let a = bias[o], b = bias[o + 1], c = bias[o + 2], d = bias[o + 3];
          for (let q = 0; q < count; q++) {
            const v = live[q], p = base + place[q];
            a += v * blocks[p]; b += v * blocks[p + 1]; c += v * blocks[p + 2]; d += v * blocks[p + 3];
          }
          value[o] = a; value[o + 1] = b; value[o + 2] = c; value[o + 3] = d;
        }
      }
      const { outputs } = layers[last];
      for (let o = 0; o < outputs; o++) output[r * outputs + o] = value[o];
    }
  }
}

const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const clip = (x, low, high) => Math.min(Math.max(x, low), high);

/** A published VAE: `decode` and `encode` in the units of the data. */
class Model {
  constructor({ weights, shapes, minScale }) {
    const numbers = unpack(weights);
    let at = 0;
    const [shift, scale, , , ...rest] = shapes.map((shape) => {
      const size = shape.reduce((a, b) => a * b, 1);
      return numbers.subarray(at, (at += size));
    });
    const half = rest.length / 2, pairs = (list) => list.flatMap((_, i) => (i % 2 ? [] : [{ kernel: list[i], bias: list[i + 1] }]));
    const linear = shapes[4][1] !== shapes[6][0]; // location and scale are layers of their own, side by side
    const build = (layers) => new Network(linear ? [besides(...layers)] : layers);
    Object.assign(this, { shift, scale, minScale, columns: shift.length });
    this.encoder = build(pairs(rest.slice(0, half)));
    this.decoder = build(pairs(rest.slice(half)));
    this.latents = this.encoder.layers.at(-1).outputs / 2;
  }

  /** p(x | z) of n latents: `out` receives the locations, then the scales of the columns, for each. */
  decode(z, n, out) {
    const d = this.columns;
    this.decoder.run(z, n, out);
    for (let i = 0; i < n; i++)
      for (let j = 0, k = 2 * d * i; j < d; j++, k++) {
        out[k] = this.shift[j] + this.scale[j] * out[k];
        out[k + d] = this.scale[j] * (this.minScale + softplus(out[k + d]));
      }
  }

  /** q(z | x) of n rows, as a proposal: locations, then scales of the latents, for each. */
  encode(x, n, out) {
    const d = this.columns, l = this.latents, units = (this.units ??= new Float64Array(d * 8192));
    for (let i = 0; i < n * d; i++) units[i] = (x[i] - this.shift[i % d]) / this.scale[i % d];
    this.encoder.run(units, n, out);
    for (let i = 0; i < n; i++)
      for (let j = 0, k = 2 * l * i; j < l; j++, k++) {
        out[k] = clip(out[k], -50, 50);
        out[k + l] = clip(1e-4 + softplus(out[k + l]), 1e-6, 50);
      }
  }

  get calls() { return this.encoder.rows + this.decoder.rows; }
}

/** Location (linear) and scale (its bias alone) as one layer. */
function besides(loc, scale) {
  const out = loc.bias.length, inputs = loc.kernel.length / out, kernel = new Float32Array(2 * out * inputs);
  for (let i = 0; i < inputs; i++) kernel.set(loc.kernel.subarray(i * out, (i + 1) * out), 2 * out * i);
  return { kernel, bias: Float32Array.of(...loc.bias, ...scale.bias) };
}

// ---------------------------------------------------------------- chance

/** sfc32 (Doty-Humphrey), and normal draws by Box and Muller, in pairs. */
class Random {
  constructor(seed) {
    this.state = [seed | 0, 1831565813, -1640531527, 1];
    for (let i = 0; i < 16; i++) this.uniform();
  }

  uniform() { // in (0, 1)
    const s = this.state, t = (s[0] + s[1] + s[3]++) | 0;
    s[0] = s[1] ^ (s[1] >>> 9);
    s[1] = (s[2] + (s[2] << 3)) | 0;
    s[2] = (((s[2] << 21) | (s[2] >>> 11)) + t) | 0;
    return ((t >>> 0) + 0.5) / 4294967296;
  }

  normal() {
    if (this.spare !== undefined) { const kept = this.spare; this.spare = undefined; return kept; }
    const radius = Math.sqrt(-2 * Math.log(this.uniform())), angle = 2 * Math.PI * this.uniform();
    this.spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  normals(n) { const out = new Float64Array(n); for (let i = 0; i < n; i++) out[i] = this.normal(); return out; }

  order(n) { // a permutation
    const out = Int32Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) { const j = Math.floor(this.uniform() * (i + 1)), kept = out[i]; out[i] = out[j]; out[j] = kept; }
    return out;
  }
}

const LOG_2PI = Math.log(2 * Math.PI);
const logNormal = (x, loc, scale) => { const r = (x - loc) / scale; return -0.5 * (r * r + LOG_2PI) - Math.log(scale); };
const logPrior = (z, i) => -0.5 * (z[2 * i] * z[2 * i] + z[2 * i + 1] * z[2 * i + 1]) - LOG_2PI;
const logQ = (z, i, q, k) => logNormal(z[2 * i], q[4 * k], q[4 * k + 2]) + logNormal(z[2 * i + 1], q[4 * k + 1], q[4 * k + 3]);

function highest(values) { let top = -Infinity; for (const v of values) if (v > top) top = v; return top; }

function logMeanExp(values) {
  const top = highest(values);
  let total = 0;
  for (const v of values) total += Math.exp(v - top);
  return top + Math.log(total / values.length);
}

/** Effective number of weights. */
function effective(logWeight) {
  const top = highest(logWeight);
  let sum = 0, squares = 0;
  for (const v of logWeight) { const w = Math.exp(v - top); sum += w; squares += w * w; }
  return (sum * sum) / squares;
}

/** `num` indices in proportion to exp(logWeight), by systematic resampling. Sorted. */
function comb(logWeight, num, random) {
  const n = logWeight.length, top = highest(logWeight), cumulative = new Float64Array(n), index = new Int32Array(num);
  let total = 0;
  for (let i = 0; i < n; i++) cumulative[i] = total += Math.exp(logWeight[i] - top);
  const offset = random.uniform();
  for (let k = 0, at = 0; k < num; k++) {
    while (at < n - 1 && cumulative[at] <= (total * (k + offset)) / num) at++;
    index[k] = at;
  }
  return index;
}

function shuffledComb(logWeight, num, random) {
  const index = comb(logWeight, num, random);
  return random.order(num).map((i) => index[i]);
}

// ---------------------------------------------------------------- the exact answer, and distances

function erf(x) { // to 1.2e-7: Press and others, Numerical Recipes, erfcc
  const t = 1 / (1 + 0.5 * Math.abs(x));
  const series = [0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368];
  const tail = t * Math.exp(-x * x - 1.26551223 + t * series.reduce((sum, c) => sum * t + c, 0));
  return x >= 0 ? 1 - tail : tail - 1;
}
const normalCdf = (x) => 0.5 * (1 + erf(x / Math.SQRT2));

/** Quantile of the normal distribution, by bisection: used for a few hundred ranks at a time. */
function normalQuantile(p) {
  let low = -8, high = 8;
  for (let i = 0; i < 40; i++) { const middle = 0.5 * (low + high); if (normalCdf(middle) < p) low = middle; else high = middle; }
  return 0.5 * (low + high);
}

const LOW = -6, HIGH = 6, CELLS = 2400, WIDTH = (HIGH - LOW) / CELLS;

/** The exact conditional of X1 given X0 = x0, under a mixture of normals over two columns. */
class Exact {
  constructor({ weights, means, covariances }, x0) {
    const density = weights.map((w, k) => w * Math.exp(logNormal(x0, means[k][0], Math.sqrt(covariances[k][0][0]))));
    const total = density.reduce((a, b) => a + b);
    this.weights = density.map((v) => v / total);
    this.means = means.map((m, k) => m[1] + (covariances[k][0][1] / covariances[k][0][0]) * (x0 - m[0]));
    this.sds = covariances.map((c) => Math.sqrt(c[1][1] - (c[0][1] * c[0][1]) / c[0][0]));
    this.upper = this.means[1] > this.means[0] ? 1 : 0; // the component that lies higher
    this.marginal = total;
    this.rise = Float64Array.from({ length: CELLS }, (_, c) => this.cdf(LOW + (c + 0.5) * WIDTH));
  }

  density(x) { return this.weights.reduce((sum, w, k) => sum + w * Math.exp(logNormal(x, this.means[k], this.sds[k])), 0); }

  cdf(x) { return this.weights.reduce((sum, w, k) => sum + w * normalCdf((x - this.means[k]) / this.sds[k]), 0); }

  /** Weight of the upper mode in draws: each counts by the probability that it came from there. */
  upperShare(x, n) {
    let sum = 0;
    for (let i = 0; i < n; i++) {
      const parts = this.weights.map((w, k) => Math.log(w) + logNormal(x[i], this.means[k], this.sds[k]));
      sum += 1 / (1 + Math.exp(parts[1 - this.upper] - parts[this.upper]));
    }
    return sum / n;
  }
}

/** 1-Wasserstein distance of the first n draws to the exact conditional: the area between distribution functions. */
function wasserstein(x, n, exact) {
  const full = new Float64Array(CELLS), part = new Float64Array(CELLS);
  for (let i = 0; i < n; i++) {
    const at = clip((x[i] - LOW) / WIDTH, 0, CELLS - 1e-9), c = Math.floor(at);
    full[c]++;
    part[c] += 1 - (at - c); // the share of its own cell that a draw lies below
  }
  let below = 0, area = 0;
  for (let c = 0; c < CELLS; c++) { area += Math.abs((below + part[c]) / n - exact.rise[c]); below += full[c]; }
  return area * WIDTH;
}

/** What n exact draws score on average: E |F_n - F| is about sqrt(2 F (1 - F) / (pi n)). */
function floor(n, exact) {
  let area = 0;
  for (const F of exact.rise) area += Math.sqrt(Math.max(F * (1 - F), 0));
  return area * WIDTH * Math.sqrt(2 / (Math.PI * n));
}

/** Rank-normalised split R-hat of chains of equal length (Vehtari and others 2021). */
function rHat(chains) {
  const half = chains[0].length >> 1;
  const split = chains.flatMap((c) => [Array.from(c.slice(0, half)), Array.from(c.slice(c.length - half))]);
  const pooled = split.flat().sort((a, b) => a - b), m = pooled.length;
  const median = 0.5 * (pooled[(m - 1) >> 1] + pooled[m >> 1]);
  const folded = split.map((c) => c.map((v) => Math.abs(v - median)));
  return Math.max(plainRHat(normalRanks(split)), plainRHat(normalRanks(folded)));
}

function normalRanks(chains) {
  const flat = chains.flat(), m = flat.length, order = flat.map((_, i) => i).sort((a, b) => flat[a] - flat[b]);
  const at = (rank) => normalQuantile((rank - 0.375) / (m + 0.25)), scores = new Float64Array(m + 1), score = new Float64Array(m);
  for (let r = 1; r <= (m + 1) / 2; r++) { scores[r] = at(r); scores[m + 1 - r] = -scores[r]; }
  for (let i = 0; i < m; ) { // equal values share their mean rank
    let j = i;
    while (j + 1 < m && flat[order[j + 1]] === flat[order[i]]) j++;
    const z = i === j ? scores[i + 1] : at((i + j) / 2 + 1);
    for (; i <= j; i++) score[order[i]] = z;
  }
  const n = chains[0].length;
  return chains.map((_, c) => score.subarray(c * n, (c + 1) * n));
}

function plainRHat(chains) {
  const n = chains[0].length, mean = (a) => a.reduce((s, v) => s + v, 0) / a.length;
  const variance = (a) => { const m = mean(a); return a.reduce((s, v) => s + (v - m) ** 2, 0) / (a.length - 1); };
  const within = mean(chains.map((c) => variance(Array.from(c))));
  const between = variance(chains.map((c) => mean(Array.from(c))));
  return Math.sqrt(((n - 1) / n * within + between) / within);
}

// ---------------------------------------------------------------- samplers

/** Draw z from q (locations and scales of n rows). */
function drawLatents(q, n, random, z) {
  for (let i = 0; i < n; i++)
    for (let j = 0; j < 2; j++) z[2 * i + j] = q[4 * i + j] + q[4 * i + 2 + j] * random.normal();
  return z;
}

/** Rows with X0 = x0 whose X1 is drawn without regard to it, from the model's marginal. */
function guess(model, x0, n, random) {
  const p = new Float64Array(4 * n), x = new Float64Array(2 * n);
  model.decode(random.normals(2 * n), n, p);
  for (let i = 0; i < n; i++) { x[2 * i] = x0; x[2 * i + 1] = p[4 * i + 1] + p[4 * i + 3] * random.normal(); }
  return x;
}

/** Chains of pseudo-Gibbs, or with a Metropolis test of Metropolis-within-Gibbs. */
class Chains {
  constructor(model, x0, count, random, test, start) {
    Object.assign(this, { model, x0, count, random, test, asked: 0, accepted: 0 });
    this.x = guess(model, x0, count, random);
    if (start) start.forEach((v, i) => { this.x[2 * i + 1] = v; });
    this.q = new Float64Array(4 * count); this.z = new Float64Array(2 * count); this.p = new Float64Array(4 * count);
    this.zNew = new Float64Array(2 * count); this.pNew = new Float64Array(4 * count);
    this.probability = new Float64Array(count); this.yes = new Uint8Array(count);
    model.encode(this.x, count, this.q);
    drawLatents(this.q, count, random, this.z);
    model.decode(this.z, count, this.p);
  }

  /** One step of the chains from `low` to `high`; every move is accepted while `free`. */
  step(low = 0, high = this.count, free = false) {
    const { model, x0, random } = this, n = high - low;
    const x = this.x.subarray(2 * low), z = this.z.subarray(2 * low), p = this.p.subarray(4 * low);
    const q = this.q.subarray(4 * low), zNew = this.zNew.subarray(2 * low), pNew = this.pNew.subarray(4 * low);
    for (let i = 0; i < n; i++) x[2 * i] = x0;
    // 1. Propose z' ~ q(z | x0, x1).
    model.encode(x, n, q);
    drawLatents(q, n, random, zNew);
    model.decode(zNew, n, pNew);
    const joint = (i, latent, out) => logPrior(latent, i) + logNormal(x0, out[4 * i], out[4 * i + 2])
      + logNormal(x[2 * i + 1], out[4 * i + 1], out[4 * i + 3]);
    for (let i = 0; i < n; i++) {
      // 2. Accept by the Metropolis-Hastings ratio at the current row.
      const ratio = joint(i, zNew, pNew) - joint(i, z, p) + logQ(z, i, q, i) - logQ(zNew, i, q, i);
      const probability = Math.exp(Math.min(ratio, 0)) || 0;
      this.asked++;
      this.accepted += probability;
      this.probability[low + i] = probability;
      const yes = !this.test || free || Math.log(random.uniform()) < ratio;
      this.yes[low + i] = yes;
      if (yes) {
        z.set(zNew.subarray(2 * i, 2 * i + 2), 2 * i);
        p.set(pNew.subarray(4 * i, 4 * i + 4), 4 * i);
      }
      // 3. Redraw x1 ~ p(x1 | z), also after a rejection.
      x[2 * i + 1] = p[4 * i + 1] + p[4 * i + 3] * random.normal();
    }
  }

  get column() { return Float64Array.from({ length: this.count }, (_, i) => this.x[2 * i + 1]); }
}

/** One pass: clamp, encode, decode once, return the decoder's mean. */
class OnePass {
  constructor(model, x0, count, random) {
    Object.assign(this, { model, x0, count, random });
    this.q = new Float64Array(4 * count); this.z = new Float64Array(2 * count); this.p = new Float64Array(4 * count);
  }

  step() {
    const { model, count, random } = this;
    this.x = guess(model, this.x0, count, random);
    model.encode(this.x, count, this.q);
    model.decode(drawLatents(this.q, count, random, this.z), count, this.p);
    this.column = Float64Array.from({ length: count }, (_, i) => this.p[4 * i + 1]);
  }
}

/** A group of LAIR: K completions propose by the encoder, R more draws come from the prior. K may be 0. */
class Lair {
  constructor(model, x0, K, R, random) {
    Object.assign(this, { model, x0, K, R, random, count: K + R });
    this.x = guess(model, x0, K, random);
    this.q = new Float64Array(4 * K);
    this.z = new Float64Array(2 * this.count); this.p = new Float64Array(4 * this.count);
    this.logWeight = new Float64Array(this.count);
  }

  propose() {
    const { model, x0, K, R, count, random, x, q, z, p, logWeight } = this;
    for (let i = 0; i < K; i++) x[2 * i] = x0;
    model.encode(x, K, q);
    drawLatents(q, K, random, z);
    for (let i = 2 * K; i < 2 * count; i++) z[i] = random.normal();
    model.decode(z, count, p);
    // w = p(z) p(x0 | z) over the mixture of all that has proposed.
    for (let i = 0; i < count; i++) {
      const prior = logPrior(z, i), u = z[2 * i], v = z[2 * i + 1];
      let mixture = R * Math.exp(prior);
      for (let k = 0; k < 4 * K; k += 4) {
        const a = (u - q[k]) / q[k + 2], b = (v - q[k + 1]) / q[k + 3], away = a * a + b * b;
        if (away < 80) mixture += Math.exp(-0.5 * away) / (2 * Math.PI * q[k + 2] * q[k + 3]);
      }
      logWeight[i] = prior + logNormal(x0, p[4 * i], p[4 * i + 2]) - Math.log(mixture / count + 1e-300);
    }
  }

  step() {
    this.propose();
    const { K, p, random } = this;
    if (!K) return;
    this.index = comb(this.logWeight, K, random);
    this.index.forEach((j, k) => { this.x[2 * k + 1] = p[4 * j + 1] + p[4 * j + 3] * random.normal(); });
  }

  get column() { return Float64Array.from({ length: this.K }, (_, i) => this.x[2 * i + 1]); }
}

/** A mixture of normals in the plane: log weights, locations, triangular factors (a, b, c: [[a, 0], [b, c]]). */
class Mixture {
  constructor(logWeight, loc, root) { Object.assign(this, { logWeight, loc, root }); }

  logProb(u, v) {
    let top = -Infinity;
    const parts = this.logWeight.map((w, k) => {
      const [a, b, c] = this.root[k], x = (u - this.loc[k][0]) / a, y = (v - this.loc[k][1] - b * x) / c;
      const value = w - 0.5 * (x * x + y * y) - Math.log(a * c) - LOG_2PI;
      top = Math.max(top, value);
      return value;
    });
    return top + Math.log(parts.reduce((sum, value) => sum + Math.exp(value - top), 0));
  }

  pick(random) { // centre and deviation
    let u = random.uniform(), k = 0;
    while (k < this.logWeight.length - 1 && (u -= Math.exp(this.logWeight[k])) > 0) k++;
    const [a, b, c] = this.root[k], e = random.normal(), f = random.normal();
    return [this.loc[k], [a * e, b * e + c * f]];
  }
}

/** Cholesky factor of [[p, q], [q, r]], shrunk by a trifle so that it is regular. */
function cholesky(p, q, r) {
  const a = Math.sqrt(p * 1.0001 + 1e-10), b = (0.999 * q) / a;
  return [a, b, Math.sqrt(r * 1.0001 + 1e-10 - b * b)];
}

/** Fit a mixture of four to members z (2n) by the EM algorithm, begun at members far from one another. */
function fitMixture(z, random, components = 4, steps = 8) {
  const n = z.length / 2, centre = [0, 0];
  for (let i = 0; i < 2 * n; i++) centre[i & 1] += z[i] / n;
  let p = 0, q = 0, r = 0;
  for (let i = 0; i < n; i++) { const u = z[2 * i] - centre[0], v = z[2 * i + 1] - centre[1]; p += u * u / n; q += u * v / n; r += v * v / n; }
  const [A, B, C] = cholesky(p, q, r), y = new Float64Array(2 * n); // in units in which their covariance is the identity
  for (let i = 0; i < n; i++) { y[2 * i] = (z[2 * i] - centre[0]) / A; y[2 * i + 1] = (z[2 * i + 1] - centre[1] - B * y[2 * i]) / C; }
  const nearest = new Float64Array(n).fill(Infinity), loc = [];
  for (let k = 0; k < components; k++) {
    const weight = k ? nearest : new Float64Array(n).fill(1);
    let u = random.uniform() * weight.reduce((a, b) => a + b), at = 0;
    while (at < n - 1 && (u -= weight[at]) >= 0) at++;
    loc.push([y[2 * at], y[2 * at + 1]]);
    for (let i = 0; i < n; i++) nearest[i] = Math.min(nearest[i], (y[2 * i] - loc[k][0]) ** 2 + (y[2 * i + 1] - loc[k][1]) ** 2);
  }
  const size = 1 / components, side = Math.sqrt(size), inertia = 4; // l + 2 members' worth of a small round component
  let mixture = new Mixture(loc.map(() => -Math.log(components)), loc, loc.map(() => [side, 0, side]));
  const share = new Float64Array(components);
  for (let step = 0; step < steps; step++) {
    const sums = loc.map(() => [1e-9, 0, 0, 0, 0, 0]);
    for (let i = 0; i < n; i++) {
      const u = y[2 * i], v = y[2 * i + 1];
      let total = 0, top = -Infinity;
      for (let k = 0; k < components; k++) {
        const [a, b, c] = mixture.root[k], s = (u - mixture.loc[k][0]) / a, t = (v - mixture.loc[k][1] - b * s) / c;
        share[k] = mixture.logWeight[k] - 0.5 * (s * s + t * t) - Math.log(a * c);
        top = Math.max(top, share[k]);
      }
      for (let k = 0; k < components; k++) total += share[k] = Math.exp(share[k] - top);
      for (let k = 0; k < components; k++) {
        const w = share[k] / total, s = sums[k];
        s[0] += w; s[1] += w * u; s[2] += w * v; s[3] += w * u * u; s[4] += w * u * v; s[5] += w * v * v;
      }
    }
    mixture = new Mixture(
      sums.map(([w]) => Math.log((w + 1) / (n + components))),
      sums.map(([w, u, v]) => [u / w, v / w]),
      sums.map(([w, u, v, uu, uv, vv]) => {
        const ridge = inertia * 0.05 * size, whole = w + inertia;
        return cholesky((uu - u * u / w + ridge) / whole, (uv - u * v / w) / whole, (vv - v * v / w + ridge) / whole);
      }),
    );
  }
  // Back into the units of z.
  return new Mixture(
    mixture.logWeight,
    mixture.loc.map(([u, v]) => [centre[0] + A * u, centre[1] + B * u + C * v]),
    mixture.root.map(([a, b, c]) => [A * a, B * a + C * b, C * c]),
  );
}

/** Tempered SMC: populations go from the prior to p(z | x0) as the evidence is turned up. */
class Tempered {
  constructor(model, x0, count, random, populations = 4) {
    Object.assign(this, { model, x0, count, random, populations, size: count / populations });
    this.z = random.normals(2 * count);
    this.p = new Float64Array(4 * count); this.logLik = new Float64Array(count);
    this.zNew = new Float64Array(2 * count); this.pNew = new Float64Array(4 * count);
    model.decode(this.z, count, this.p);
    this.score();
    this.groups = Array.from({ length: populations }, () =>
      ({ b: 0, logWidth: Math.log(2.38 / Math.SQRT2), jumps: 0, rounds: 0, logEvidence: 0 }));
  }

  score() { for (let i = 0; i < this.count; i++) this.logLik[i] = logNormal(this.x0, this.p[4 * i], this.p[4 * i + 2]); }

  get b() { return Math.min(...this.groups.map((g) => g.b)); }

  get ready() { return this.groups.every((g) => g.b === 1 && (g.jumps >= 3 || g.rounds >= 10)); }

  /** The highest inverse temperature at which half of a population's effective size is left. */
  next(logLik, b) {
    const bears = (to) => effective(logLik.map((v) => (to - b) * v)) >= 0.5 * this.size;
    if (bears(1)) return 1;
    let low = b, high = 1;
    for (let i = 0; i < 30; i++) { const middle = 0.5 * (low + high); if (bears(middle)) low = middle; else high = middle; }
    return Math.max(low, b + 1e-12);
  }

  /** Replace the members of a population by those that `index` names. */
  take(start, index) {
    const z = this.z.slice(), p = this.p.slice(), logLik = this.logLik.slice();
    index.forEach((j, i) => {
      const to = start + i, from = start + j;
      this.z.set(z.subarray(2 * from, 2 * from + 2), 2 * to);
      this.p.set(p.subarray(4 * from, 4 * from + 4), 4 * to);
      this.logLik[to] = logLik[from];
    });
  }

  /** Survivors along a random order: copies stand side by side, so that a cut parts ancestors. */
  resample(start, logWeight) {
    const order = this.random.order(this.size), shuffled = Float64Array.from(order, (j) => logWeight[j]);
    const index = comb(shuffled, this.size, this.random);
    this.take(start, Array.from(index, (i) => order[i]));
  }

  /** One step, in pieces; yields what has just been done. `stages` only name what a reader may look at. */
  *step(moves = 6) {
    const { size, random } = this, half = size / 2;
    // 1. Raise each population's temperature, and weigh its members.
    this.logWeight = new Float64Array(this.count);
    this.groups.forEach((g, r) => {
      const logLik = this.logLik.subarray(r * size, (r + 1) * size), b = this.next(logLik, g.b);
      const logWeight = logLik.map((v) => (b - g.b) * v);
      this.logWeight.set(logWeight, r * size);
      g.logEvidence += logMeanExp(logWeight);
      g.b = b;
    });
    yield "weighed";
    // 2. Resample, and 3. fit a mixture to each half, for the other.
    this.groups.forEach((g, r) => this.resample(r * size, this.logWeight.slice(r * size, (r + 1) * size)));
    yield "resampled";
    for (const _ of this.fit()) yield "";
    let sum = 0;
    for (let number = 0; number < moves; number++) {
      for (const [r, g] of this.groups.entries()) {
        let total = 0;
        for (let h = 0; h < 2; h++) { total += this.move(r * size + h * half, half, g, this.mixtures[r][1 - h], number % 2 === 0); yield ""; }
        const mean = total / size;
        sum += mean / (moves * this.populations);
        if (number % 2) g.arriving = (number > 1 ? g.arriving : 0) + mean;
        else g.logWidth += mean - 0.25; // narrower walks after too many rejections
      }
    }
    this.acceptance = sum;
    for (const g of this.groups) {
      g.jumps = g.b === 1 ? g.jumps + g.arriving : 0;
      g.rounds = g.b === 1 ? g.rounds + 1 : 0;
    }
    yield "moved";
  }

  *fit() {
    const half = this.size / 2;
    this.mixtures = this.groups.map(() => []);
    for (const [r, pair] of this.mixtures.entries())
      for (let h = 0; h < 2; h++) {
        const start = r * this.size + h * half;
        pair.push(fitMixture(this.z.subarray(2 * start, 2 * (start + half)), this.random));
        yield "";
      }
  }

  /** Walk by a component's shape, or jump to a draw from the mixture; the sum of the probabilities. */
  move(start, n, group, mixture, walks) {
    const { model, x0, random } = this, width = Math.exp(group.logWidth);
    const z = this.z.subarray(2 * start), zNew = this.zNew.subarray(0, 2 * n), pNew = this.pNew.subarray(0, 4 * n);
    for (let i = 0; i < n; i++) {
      const [centre, away] = mixture.pick(random);
      for (let j = 0; j < 2; j++) zNew[2 * i + j] = walks ? z[2 * i + j] + width * away[j] : centre[j] + away[j];
    }
    model.decode(zNew, n, pNew);
    let total = 0;
    for (let i = 0; i < n; i++) {
      const logLik = logNormal(x0, pNew[4 * i], pNew[4 * i + 2]);
      let ratio = group.b * (logLik - this.logLik[start + i]) + logPrior(zNew, i) - logPrior(z, i);
      if (!walks) ratio += mixture.logProb(z[2 * i], z[2 * i + 1]) - mixture.logProb(zNew[2 * i], zNew[2 * i + 1]);
      total += Math.exp(Math.min(ratio, 0)) || 0;
      if (Math.log(random.uniform()) < ratio) {
        z.set(zNew.subarray(2 * i, 2 * i + 2), 2 * i);
        this.p.set(pNew.subarray(4 * i, 4 * i + 4), 4 * (start + i));
        this.logLik[start + i] = logLik;
      }
    }
    return total;
  }

  /** Follow the evidence to another value, from one posterior to the next. */
  follow(x0) {
    const before = this.logLik.slice();
    this.x0 = x0;
    this.score();
    const logWeight = this.logLik.map((v, i) => v - before[i]);
    this.groups.forEach((g, r) => this.resample(r * this.size, logWeight.slice(r * this.size, (r + 1) * this.size)));
    for (const _ of this.fit());
    const half = this.size / 2;
    for (let number = 0; number < 2; number++)
      for (const [r, g] of this.groups.entries())
        for (let h = 0; h < 2; h++) this.move(r * this.size + h * half, half, g, this.mixtures[r][1 - h], number === 0);
  }

  /** `num` draws of X1: members by the evidence that their population found, completed. */
  draws(num) {
    const logWeight = new Float64Array(this.count);
    this.groups.forEach((g, r) => logWeight.fill(g.logEvidence, r * this.size, (r + 1) * this.size));
    return pooled(this.z, this.p, logWeight, num, this.random);
  }
}

/** Draws from the prior and their decodings. They do not depend on the evidence, so they are made once. */
class Pool {
  constructor(model, seed = 11) {
    Object.assign(this, { model, random: new Random(seed), count: 0, z: new Float64Array(0), p: new Float64Array(0) });
  }

  grow(to, by = 200) {
    const longer = (old, size) => { const grown = new Float64Array(size); grown.set(old); return grown; };
    if (this.p.length < 4 * to) { this.z = longer(this.z, 2 * to); this.p = longer(this.p, 4 * to); }
    const n = Math.min(by, to - this.count);
    if (n > 0) {
      this.z.set(this.random.normals(2 * n), 2 * this.count);
      this.model.decode(this.z.subarray(2 * this.count), n, this.p.subarray(4 * this.count));
    }
    this.count += Math.max(n, 0);
  }

  weigh(x0, n = this.count) {
    const w = new Float64Array(n);
    for (let i = 0; i < n; i++) w[i] = logNormal(x0, this.p[4 * i], this.p[4 * i + 2]);
    return w;
  }

  draws(logWeight, num, random) { return pooled(this.z, this.p, logWeight, num, random); }
}

/** Resample `num` of weighted latents and draw X1 from each.
 *
 * In the order of the widest latent, systematic resampling takes from every part of it what is its due.
 */
function pooled(z, p, logWeight, num, random) {
  const n = logWeight.length, top = highest(logWeight), moments = [[0, 0], [0, 0]];
  let total = 0;
  for (let i = 0; i < n; i++) {
    const w = Math.exp(logWeight[i] - top);
    total += w;
    for (let j = 0; j < 2; j++) { moments[j][0] += w * z[2 * i + j]; moments[j][1] += w * z[2 * i + j] ** 2; }
  }
  const [u, v] = moments.map(([m, square]) => square / total - (m / total) ** 2), order = inOrder(z, u >= v ? 0 : 1, n);
  const index = shuffledComb(Float64Array.from(order, (i) => logWeight[i]), num, random);
  return Float64Array.from(index, (k) => { const i = 4 * order[k]; return p[i + 1] + p[i + 3] * random.normal(); });
}

/** Indices of n latents in the order of coordinate j, to a three-hundredth. */
function inOrder(z, j, n) {
  const bins = 4096, bin = new Int32Array(n), start = new Int32Array(bins + 1), order = new Int32Array(n);
  for (let i = 0; i < n; i++) { bin[i] = clip(Math.floor((z[2 * i + j] + 6) * (bins / 12)), 0, bins - 1); start[bin[i] + 1]++; }
  for (let b = 0; b < bins; b++) start[b + 1] += start[b];
  for (let i = 0; i < n; i++) order[start[bin[i]]++] = i;
  return order;
}

const sixteens = (n) => (n > 16 ? 16 * Math.ceil(n / 16) : n);

/** Whole runs with the package's settings, in pieces of a millisecond or two.
 *
 * `job` holds model, pool, x0, num (draws asked for) and random. `job.draws` are the draws when they are there,
 * `job.shown` what may be looked at before, `job.note` how far it is, `job.acceptance` and `job.ess` what it reports.
 */
const RUNS = {
  *one_pass(job) {
    const pass = new OnePass(job.model, job.x0, 50, job.random), all = [];
    while (all.length < job.num) { pass.step(); all.push(...pass.column); job.shown = all; yield all.length / job.num; }
    job.draws = all.slice(0, job.num);
  },

  *pseudo_gibbs(job) { yield* runChains(job, false, 100, 5); },

  *metropolis_within_gibbs(job) { yield* runChains(job, true, 500, 50); },

  *importance(job) {
    const proposals = Math.max(40 * job.num, 2000);
    while (job.pool.count < proposals) { job.pool.grow(proposals, 100); yield job.pool.count / proposals; }
    const logWeight = job.pool.weigh(job.x0, proposals);
    job.ess = effective(logWeight);
    job.draws = job.pool.draws(logWeight, job.num, job.random);
  },

  *lair(job) {
    const steps = 20, wanted = Math.max(40 * job.num, 2000);
    const K = 10 * clip(Math.ceil(wanted / (20 * steps)), 1, 20), groups = Math.ceil(wanted / (steps * 2 * K));
    const size = 2 * K * steps * groups, z = new Float64Array(2 * size), p = new Float64Array(4 * size), logWeight = new Float64Array(size);
    let at = 0;
    for (let g = 0; g < groups; g++) {
      const group = new Lair(job.model, job.x0, K, K, job.random);
      for (let t = 0; t < steps; t++, at += 2 * K) {
        group.step();
        z.set(group.z, 2 * at);
      p.set(group.p, 4 * at);
        logWeight.set(group.logWeight, at);
        job.shown = group.column;
        yield at / size;
      }
    }
    job.ess = effective(logWeight);
    job.draws = pooled(z, p, logWeight, job.num, job.random);
  },

  *tempered_smc(job) {
    const smc = new Tempered(job.model, job.x0, 16 * Math.ceil(Math.max(job.num, 256) / 16), job.random);
    for (let last = false, round = 1; ; round++) {
      for (const stage of smc.step()) if (!stage) yield Math.min(0.95, smc.b < 1 ? 0.5 * smc.b : 0.5 + 0.1 * smc.groups[0].rounds);
      job.acceptance = smc.acceptance;
      job.shown = smc.draws(Math.min(job.num, 1000));
      job.note = smc.b < 1 ? `evidence turned up to ${smc.b.toFixed(2)} of 1` : "at the posterior";
      if (last) break;
      last = smc.ready; // one more step, whose members are kept
    }
    job.draws = smc.draws(job.num);
  },
};

function* runChains(job, test, warmup, thin) {
  const count = Math.max(4, sixteens(Math.ceil(job.num / 10))), keep = Math.ceil(job.num / count), total = warmup + keep * thin;
  const set = new Chains(job.model, job.x0, count, job.random, test), all = [];
  for (let t = 1; t <= total; t++) {
    for (let low = 0; low < count; low += 64) { set.step(low, Math.min(low + 64, count), t <= 20); yield t / total; }
    if (t === warmup) set.asked = set.accepted = 0;
    if (t > warmup && (t - warmup) % thin === 0) all.push(...set.column);
    job.shown = all.length ? all : set.column;
    job.note = t <= warmup ? `warm-up, step ${t} of ${warmup}` : `step ${t - warmup} of ${total - warmup}`;
    job.acceptance = set.accepted / set.asked;
  }
  job.draws = all.slice(0, job.num);
}
