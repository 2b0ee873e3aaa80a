// X1 given X0: the reader moves the line, picks a method, and may watch one chain or one population step by step.

const MODEL = new Model(DATA.model), POOL = new Pool(MODEL);
const NUM = 2000, SPAN = 3, REACH = 4.2, SIDE = 121;
const ABOUT = {
  one_pass: "Put the known X₀ into a row, encode, decode once, return the mean: the method of the 2018 note. It does not sample the conditional.",
  pseudo_gibbs: "Encoder and decoder in turn, every move accepted. Biased wherever the encoder is not the posterior.",
  metropolis_within_gibbs: "The same moves, with a Metropolis test. Exact in the limit, and slow: a new z must suit the old x₁.",
  importance: "Draws from the prior, weighed by p(x₀ | z) and resampled.",
  lair: "Importance resampling whose proposal is made of its own completions, and of the prior.",
  tempered_smc: "Populations go from the prior to p(z | x₀) as the evidence is turned up.",
};
const DATA_FRAME = { x: [-SPAN, SPAN], y: [-SPAN, SPAN], left: 36 };

/** The decoder on a grid of latents: from it follow p(z | x0) and the model's own conditional. */
const GRID = { z: new Float64Array(2 * SIDE * SIDE), p: new Float64Array(4 * SIDE * SIDE), rows: 0 };
function fillGrid() {
  const r = GRID.rows++, z = GRID.z.subarray(2 * SIDE * r, 2 * SIDE * (r + 1));
  for (let c = 0; c < SIDE; c++) { z[2 * c] = REACH * ((2 * c) / (SIDE - 1) - 1); z[2 * c + 1] = REACH * (1 - (2 * r) / (SIDE - 1)); }
  MODEL.decode(z, SIDE, GRID.p.subarray(4 * SIDE * r));
}

/** p(z) p(x0 | z)^b on the grid, its greatest value set to 1. */
function posterior(x0, b) {
  const w = new Float64Array(SIDE * SIDE);
  for (let i = 0; i < w.length; i++) w[i] = logPrior(GRID.z, i) + b * logNormal(x0, GRID.p[4 * i], GRID.p[4 * i + 2]);
  const top = highest(w);
  return w.map((v) => Math.exp(v - top));
}

/** One chain, a cloud of proposals, or one run of populations, a stride at a time. */
class Walk {
  constructor(method, x0, seed) {
    Object.assign(this, { method, x0, random: new Random(1000 + seed), step: 0, draws: [], strips: [], trace: [], trail: [], z: [], p: [], logWeight: [] });
    this.kind = method === "tempered_smc" ? "population" : method === "lair" || method === "importance" ? "cloud" : "chain";
    if (method === "one_pass") this.set = new OnePass(MODEL, x0, 1, this.random);
    else if (this.kind === "chain") this.set = new Chains(MODEL, x0, 1, this.random, method !== "pseudo_gibbs");
    else if (this.kind === "cloud") this.set = new Lair(MODEL, x0, method === "lair" ? 20 : 0, method === "lair" ? 20 : 60, this.random);
    else this.set = new Tempered(MODEL, x0, 256, this.random);
    this.says = {
      chain: "Each <b>step</b> encodes the row, draws a latent from the dashed ellipse, and decodes it.",
      cloud: "Each <b>step</b> proposes latents and weighs them: the larger the dot, the larger its weight.",
      population: "The population is at the prior. Each <b>step</b> turns the evidence up, resamples, or moves it.",
    }[this.kind];
  }

  stride() {
    this[this.kind]();
  }

  chain() {
    const { set } = this;
    this.step++;
    if (this.method === "one_pass") {
      set.step();
      this.last = { q: set.q.slice(), to: set.z.slice(), from: null, old: set.x[1], now: set.column[0], yes: true };
      this.says = `<b>Draw ${this.step}.</b> A row drawn without regard to X₀ has x₁ = ${fixed(this.last.old)}. The encoder reads it with X₀ put in and draws z = (${fixed(set.z[0])}, ${fixed(set.z[1])}). The decoder’s mean, <b>${fixed(this.last.now)}</b>, is returned.`;
    } else {
      const from = set.z.slice(), old = set.x[1];
      set.step();
      this.last = { q: set.q.slice(), to: set.zNew.slice(), from, old, now: set.x[1], yes: set.yes[0] === 1 };
      if (this.last.yes) this.trail = [...this.trail, Array.from(from)].slice(-40);
      const odds = set.probability[0], tested = set.test;
      this.says = `<b>Step ${this.step}.</b> The encoder at x₁ = ${fixed(old)} proposes z′ = (${fixed(set.zNew[0])}, ${fixed(set.zNew[1])}). `
        + (tested ? `Accepted with probability ${fixed(odds)}: <b>${this.last.yes ? "accepted" : "rejected"}</b>.` : `It is taken. A Metropolis test would accept it with probability ${fixed(odds)}.`)
        + ` The decoder draws x₁ = <b>${fixed(this.last.now)}</b>.`;
    }
    this.draws.push(this.last.now);
    this.trace.push([this.last.now, this.last.yes]);
  }

  cloud() {
    const { set, random } = this;
    this.step++;
    this.before = set.K ? set.column : null;
    set.step();
    this.z.push(...set.z); this.p.push(...set.p); this.logWeight.push(...set.logWeight);
    const all = Float64Array.from(this.logWeight), ess = effective(all);
    this.draws = Array.from(pooled(this.z, this.p, all, Math.min(600, this.logWeight.length), random));
    this.strips.push(Array.from(set.K ? set.column : pooled(set.z, set.p, set.logWeight, 40, random)));
    this.says = `<b>Step ${this.step}.</b> ` + (set.K
      ? `${set.K} completions propose by the encoder (filled), the prior proposes ${set.R} more (rings). ${set.K} are resampled by weight and completed anew.`
      : `The prior proposes ${set.R}. `) + ` The ${whole(all.length)} proposals so far are worth <b>${whole(ess)}</b> equal ones.`;
  }

  population() {
    const { set } = this;
    this.from = set.z.slice();
    let stage = "";
    while (!stage) {
      this.stages ??= set.step();
      const next = this.stages.next();
      if (next.done) this.stages = null; else stage = next.value;
    }
    this.stage = stage;
    this.step++;
    if (stage === "weighed") {
      const worth = effective(set.logWeight);
      this.says = set.b === 1 && this.arrived
        ? "The evidence is fully turned up: all weights are equal."
        : `The evidence is turned up to <b>${fixed(set.b)}</b> of 1. Members that explain it grow: the ${set.count} are worth ${whole(worth)}.`;
      this.arrived = set.b === 1;
    } else if (stage === "resampled") {
      this.says = "<b>Resampled.</b> Heavy members are copied, light ones are gone.";
    } else {
      this.says = `<b>Moved.</b> Six Metropolis moves of each member, walks and jumps in turn; ${percent(set.acceptance)} accepted.` + (set.ready ? " The members are draws of p(z | x₀) now." : "");
    }
    this.draws = Array.from(set.draws(set.count));
    if (stage === "moved") this.strips.push(this.draws.slice(0, 90));
  }
}

class LiveConditional extends LiveElement {
  template() {
    const methods = Object.keys(ABOUT).map((m) => [m, DATA.labels[m]]);
    return `<section aria-label="Live figure: X1 given X0, drawn in your browser">
      <fieldset><legend>Method</legend>${pills("method", methods)}</fieldset>
      <div class="plots">
        <div><canvas class="drag data" role="img" aria-label="The joint density of X0 and X1."></canvas></div>
        <div><canvas class="density" role="img" aria-label="Histogram of the draws of X1 beside the exact density."></canvas></div>
        <div class="walk" hidden><canvas class="latent" role="img" aria-label="The plane of latents."></canvas></div>
        <div class="walk" hidden><canvas class="trace" role="img" aria-label="x1 over the steps."></canvas></div>
      </div>
      <div class="keys" aria-hidden="true"><span><i></i>exact</span><span><i class="dashed"></i>the model’s own</span><span><i class="block"></i><b class="which"></b></span></div>
      <div class="row"><label class="value" for="x0">X₀ = <output for="x0"></output></label><input id="x0" type="range" min="-2" max="2" step="0.05"></div>
      <div class="row"><button class="watch" aria-pressed="false">Step by step</button><button class="stride walk" hidden>Step</button><button class="play walk" hidden aria-pressed="false">Play</button><button class="again">Draw again</button></div>
      <div class="bar" aria-hidden="true"><i></i></div>
      <dl><div><dt>draws</dt><dd class="count"></dd></div><div><dt>W₁ to the exact answer</dt><dd class="w1"></dd></div>
        <div><dt>floor: W₁ of exact draws</dt><dd class="floor"></dd></div><div><dt>weight of the upper mode</dt><dd class="mode"></dd></div></dl>
      <p class="story"></p><div class="unseen" role="status" aria-live="polite"></div></section>`;
  }

  ready() {
    this.method = this.getAttribute("method") in ABOUT ? this.getAttribute("method") : "tempered_smc";
    this.seed = 0;
    this.cloud = this.joint(700);
    const slider = this.$("#x0");
    this.place(clip(Number(this.getAttribute("x0") ?? 1) || 0, -2, 2));
    this.shadowRoot.addEventListener("change", (event) => { if (event.target.name === "method") this.choose(event.target.value); });
    slider.addEventListener("input", () => this.move(Number(slider.value)));
    slider.addEventListener("change", () => this.release());
    this.drag(this.$(".data"), DATA_FRAME, (x) => { slider.focus({ preventScroll: true }); this.move(clip(x, -2, 2)); },
      () => { this.place(Math.round(this.x0 * 20) / 20); this.release(); });
    this.$(".again").onclick = () => { this.seed++; this.restart(); };
    this.$(".watch").onclick = () => this.watchSteps(!this.walk);
    this.$(".stride").onclick = () => { this.play(false); this.stride(true); };
    this.$(".play").onclick = () => this.play(!this.playing);
    this.shadowRoot.querySelector(`input[value=${this.method}]`).checked = true;
    if (this.hasAttribute("steps")) this.watchSteps(true); else this.restart();
  }

  relook() { this.style.setProperty("--m", this.color(this.method)); this.sheet = this.heat = null; }

  /** Rows of the data, from the exact mixture. */
  joint(n) {
    const random = new Random(5), { means, covariances } = DATA.mixture, rows = [];
    for (let i = 0; i < n; i++) {
      const k = i % 2, c = covariances[k], a = Math.sqrt(c[0][0]), e = random.normal(), f = random.normal();
      rows.push([means[k][0] + a * e, means[k][1] + (c[0][1] / a) * e + Math.sqrt(c[1][1] - (c[0][1] / a) ** 2) * f]);
    }
    return rows;
  }

  place(x0) { this.x0 = x0; this.$("#x0").value = x0; this.exact = new Exact(DATA.mixture, x0); this.own = null; }

  choose(method) {
    this.method = method;
    this.carried = this.rise = null;
    this.look();
    if (this.walk) this.watchSteps(true); else this.restart();
  }

  /** The line moves: as many draws as a frame allows, by chains and populations that are carried along. */
  move(x0) { this.place(x0); this.touched = true; this.job = null; this.previewed = false; this.change(); }

  release() { this.touched = false; this.carried = this.rise = null; if (this.walk) this.watchSteps(true); else this.restart(); }

  restart() {
    if (this.walk) { this.watchSteps(true); return; }
    this.job = { model: MODEL, pool: POOL, x0: this.x0, num: NUM, random: new Random(this.seed), share: 0, spent: 0, calls: MODEL.calls };
    this.job.run = RUNS[this.method](this.job);
    this.change();
  }

  watchSteps(on) {
    this.play(false);
    this.walk = on ? new Walk(this.method, this.x0, this.seed) : null;
    this.job = null;
    for (const node of this.shadowRoot.querySelectorAll(".walk")) node.hidden = !on;
    this.$(".watch").setAttribute("aria-pressed", on);
    this.put(".again", on ? "Start over" : "Draw again");
    if (!on) this.restart();
    this.change();
  }

  play(on) { this.playing = on; const button = this.$(".play"); button.setAttribute("aria-pressed", on); button.textContent = on ? "Pause" : "Play"; this.wake(); }

  stride(aloud) {
    this.walk.stride();
    this.began = performance.now();
    if (aloud) this.say(this.walk.says.replace(/<\/?b>/g, ""));
    this.change();
  }

  /** How far the picture of the last stride is, from 0 to 1. */
  get eased() { return this.calm.matches || !this.walk?.step ? 1 : clip((performance.now() - this.began) / this.pace, 0, 1); }

  get pace() { const slow = this.walk.kind === "chain" ? 650 : 700; return this.playing && this.walk.kind === "chain" && this.walk.step > 8 ? 110 : slow; }

  work(until, now) {
    if (this.touched) { if (!this.previewed || this.method !== "importance") this.preview(until); this.previewed = true; this.stale = true; return this.carries; }
    if (this.walk) {
      this.fill(until);
      const wait = this.calm.matches ? 1000 : this.pace * (this.walk.kind === "chain" && this.walk.step > 8 ? 1 : 1.5);
      if (this.playing && !(performance.now() - this.began < wait)) this.stride(false);
      const moving = this.walk.step > 0 && this.eased < 1;
      if (moving) this.stale = true;
      return this.playing || moving || GRID.rows < SIDE;
    }
    const { job } = this;
    if (job && !job.done) {
      const begun = performance.now();
      while (!job.done && performance.now() < until) {
        const piece = job.run.next();
        if (piece.done) { job.done = true; job.share = 1; } else job.share = piece.value;
      }
      job.spent += performance.now() - begun;
      this.stale = true;
      if (job.done) job.calls = MODEL.calls - job.calls;
      return true;
    }
    this.fill(until);
    return GRID.rows < SIDE;
  }

  /** The model's own conditional, when there is time. */
  fill(until) {
    while (GRID.rows < SIDE && performance.now() < until) fillGrid();
    if (GRID.rows === SIDE && !this.own) { this.own = this.modelDensity(); this.stale = true; }
  }

  preview(until) {
    const { method, x0 } = this, random = new Random(3);
    this.carries = true;
    if (method === "one_pass") {
      const pass = new OnePass(MODEL, x0, 25, random), all = [];
      do { pass.step(); all.push(...pass.column); } while (performance.now() < until && all.length < NUM);
      this.seen = all;
      this.carries = false;
    } else if (method === "importance") {
      do POOL.grow(40 * NUM, 50); while (performance.now() < until && POOL.count < 40 * NUM);
      this.seen = POOL.draws(POOL.weigh(x0), Math.min(NUM, POOL.count), random);
      this.carries = false;
    } else if (method === "lair") {
      const group = (this.carried ??= new Lair(MODEL, x0, 40, 40, random));
      group.x0 = x0;
      group.step();
      this.seen = pooled(group.z, group.p, group.logWeight, 400, random);
    } else if (method === "tempered_smc") {
      if (!this.carried) { // from the prior to here, in as many frames as it takes
        this.rise ??= (this.rising = new Tempered(MODEL, x0, 256, random)).step();
        while (performance.now() < until) if (this.rise.next().done) { if (this.rising.b === 1) { this.carried = this.rising; this.rise = null; break; } this.rise = this.rising.step(); }
        this.seen = this.rising.draws(256);
        if (!this.carried) return;
      }
      this.carried.follow(x0);
      this.seen = this.carried.draws(256);
    } else {
      const chains = (this.carried ??= new Chains(MODEL, x0, 160, random, method !== "pseudo_gibbs"));
      chains.x0 = x0;
      do chains.step(); while (performance.now() < until - 3);
      this.seen = chains.column;
    }
  }

  modelDensity() {
    const w = posterior(this.x0, 1), steps = 180, width = (2 * SPAN) / steps, density = new Float64Array(steps + 1);
    let total = 0;
    w.forEach((v, i) => {
      if (v < 1e-4) return;
      total += v;
      const m = GRID.p[4 * i + 1], s = GRID.p[4 * i + 3];
      const from = Math.max(0, Math.floor((m - 4 * s + SPAN) / width)), to = Math.min(steps, Math.ceil((m + 4 * s + SPAN) / width));
      for (let k = from; k <= to; k++) density[k] += v * Math.exp(logNormal(-SPAN + k * width, m, s));
    });
    return Array.from(density, (v, k) => [v / total, -SPAN + k * width]);
  }

  get draws() { return this.touched ? this.seen : this.walk ? this.walk.draws : this.job?.draws ?? this.job?.shown; }

  // ---------------------------------------------------------------- what is seen

  paint() {
    const x = this.draws, n = x?.length ?? 0, { exact, job, walk } = this;
    this.hue = this.color(this.method);
    this.paintData(x, n);
    this.paintDensity(x, n);
    if (walk) { this.paintLatents(); this.paintTrace(); }
    const label = DATA.labels[this.method], w1 = n && wasserstein(x, n, exact), base = n && floor(n, exact), up = n && exact.upperShare(x, n);
    const final = Boolean(job?.done), weight = exact.weights[exact.upper];
    this.put("output", fixed(this.x0));
    this.put(".which", label);
    const state = this.touched ? "while you move" : walk || final ? "" : job?.note ?? "on the way";
    this.put(".count", n ? `${whole(n)} <small>${state}</small>` : "none yet");
    this.put(".w1", n ? `${fixed(w1, 3)} <small>${n > 1 ? `${fixed(w1 / base, 1)} floors` : ""}</small>` : "…");
    this.put(".floor", n ? fixed(base, 3) : "…");
    this.put(".mode", `${n ? percent(up) : "…"} <small>exact ${percent(weight)}</small>`);
    this.$(".bar i").style.transform = `scaleX(${this.touched || walk ? 0 : job?.share ?? 0})`;
    const rate = job?.acceptance === undefined ? "" : ` ${percent(job.acceptance)} of the moves ${this.method === "pseudo_gibbs" ? "would pass a Metropolis test" : "accepted"}.`;
    const told = final ? ` ${whole(job.calls)} passes through the networks in <b>${fixed(job.spent / 1000, 1)} s</b>.${rate}${job.ess ? ` Weights worth ${whole(job.ess)} equal ones.` : ""}` : "";
    this.put(".story", walk ? walk.says : ABOUT[this.method] + told);
    const answer = `The exact answer has a mode at ${fixed(exact.means[exact.upper], 1)} with weight ${percent(weight)} and one at ${fixed(exact.means[1 - exact.upper], 1)}.`;
    const found = n ? `${label}: ${whole(n)} draws, W1 ${fixed(w1, 3)} with a floor of ${fixed(base, 3)}, weight of the upper mode ${percent(up)} for ${percent(weight)}.` : "";
    this.$("#x0").setAttribute("aria-valuetext", `X0 = ${fixed(this.x0)}`);
    this.$(".data").setAttribute("aria-label", `The joint density: two ridges that cross, cut by a line at X0 = ${fixed(this.x0)}, which the slider below moves.`);
    this.$(".density").setAttribute("aria-label", `Histogram of the draws of X1 beside the exact density. ${answer} ${found}`);
    if (final && !job.told) {
      job.told = true;
      this.say(`X0 = ${fixed(this.x0)}. ${found}`);
      this.result = { method: this.method, x0: this.x0, draws: n, w1, floor: base, upper: up, acceptance: job.acceptance };
      this.dispatchEvent(new CustomEvent("drawn", { detail: this.result }));
    }
  }

  paintData(x, n) {
    const plot = this.plot(".data", DATA_FRAME), { ink, walk } = this;
    if (!this.sheet) { // the exact joint density, as a shade
      const size = 120, shade = ink.dark ? [160, 180, 210] : [80, 100, 130], sheet = (this.sheet = document.createElement("canvas"));
      sheet.width = sheet.height = size;
      const g = sheet.getContext("2d"), image = g.createImageData(size, size);
      for (let c = 0; c < size; c++) {
        const u = ((c + 0.5) / size) * 2 * SPAN - SPAN, at = new Exact(DATA.mixture, u);
        for (let r = 0; r < size; r++)
          image.data.set([...shade, 170 * Math.min(1, at.marginal * at.density(SPAN - ((r + 0.5) / size) * 2 * SPAN) * 2) ** 0.6], 4 * (r * size + c));
      }
      g.putImageData(image, 0, 0);
    }
    plot.inside((g) => {
      g.drawImage(this.sheet, plot.left, plot.top, plot.width, plot.height);
      for (const [u, v] of this.cloud) plot.dot(u, v, 1, ink.soft, 0.35);
      plot.line([[this.x0, -SPAN], [this.x0, SPAN]], ink.mark, 2);
      const shown = Math.min(n, walk?.kind === "chain" ? 60 : 220), jitter = new Random(9);
      for (let k = 0; k < shown; k++) {
        const i = walk ? n - shown + k : Math.floor((k * n) / shown);
        plot.dot(this.x0 + 0.075 * jitter.normal(), x[i], 2.3, this.hue, walk ? 0.15 + (0.5 * k) / shown : 0.5);
      }
      if (walk?.last) {
        const t = this.eased, { old, now } = walk.last, y = old + (now - old) * clip(2.5 * t - 1.5, 0, 1);
        plot.dot(this.x0, y, 7, this.hue); plot.dot(this.x0, y, 7, ink.paper, 1, true);
      }
    });
    const g = plot.g, at = plot.X(this.x0); // the grip
    g.fillStyle = ink.mark; g.beginPath(); g.roundRect(at - 16, plot.top + 5, 32, 22, 11); g.fill();
    g.strokeStyle = ink.paper; g.lineWidth = 2; g.beginPath();
    for (const s of [-1, 1]) { g.moveTo(at + 4 * s, plot.top + 11.5); g.lineTo(at + 9 * s, plot.top + 16); g.lineTo(at + 4 * s, plot.top + 20.5); }
    g.stroke();
    plot.axes({ xs: [-2, 0, 2], ys: [-2, 0, 2], xname: "X₀", yname: "X₁" });
  }

  paintDensity(x, n) {
    const plot = this.plot(".density", { x: [0, 2.3], y: [-SPAN, SPAN], left: 8 }), { ink, exact } = this;
    plot.inside(() => {
      if (n) plot.histogram(x, n, this.hue, this.job?.done || this.walk || this.touched ? 0.6 : 0.35);
      const curve = Array.from({ length: 301 }, (_, i) => -SPAN + (i * SPAN) / 150).map((v) => [exact.density(v), v]);
      plot.density(curve, ink.ink, 2.2);
      if (this.own && !this.touched) plot.density(this.own, ink.mark, 1.8, [5, 4]);
    });
    plot.axes({ xs: [0, 1, 2], xname: "density" });
  }

  paintLatents() {
    const plot = this.plot(".latent", { x: [-REACH, REACH], y: [-REACH, REACH], left: 36 }), { ink, walk } = this, { set } = walk;
    const b = walk.kind === "population" ? set.b : 1, key = `${this.x0} ${b}`;
    if (GRID.rows === SIDE && (!this.heat || this.heat.key !== key)) {
      const canvas = document.createElement("canvas"), shade = ink.dark ? [160, 180, 210] : [80, 100, 130], p = posterior(this.x0, b);
      canvas.width = canvas.height = SIDE;
      const g = canvas.getContext("2d"), image = g.createImageData(SIDE, SIDE);
      p.forEach((v, i) => image.data.set([...shade, 190 * v ** 0.55], 4 * i));
      g.putImageData(image, 0, 0);
      this.heat = { key, canvas };
    }
    plot.inside((g) => {
      if (this.heat?.key === key) g.drawImage(this.heat.canvas, plot.left, plot.top, plot.width, plot.height);
      const t = this.eased;
      if (walk.kind === "population") this.paintMembers(plot, t);
      else if (walk.kind === "cloud") this.paintCloud(plot);
      else if (walk.last) this.paintMove(plot, t);
    });
    plot.axes({ xs: [-2, 0, 2], ys: [-2, 0, 2], xname: "z₁", yname: "z₂" });
    this.$(".latent").setAttribute("aria-label", `The plane of latents, with p(z | x0)${b < 1 ? ` at ${fixed(b)} of the evidence` : ""} as a shade. ${walk.says.replace(/<\/?b>/g, "")}`);
  }

  paintMembers(plot, t) {
    const { set, stage, from } = this.walk;
    const sizes = stage === "weighed" && effective(set.logWeight) < 0.999 * set.count ? this.relative(set.logWeight) : null;
    const s = stage === "moved" ? t * t * (3 - 2 * t) : 1;
    for (let i = 0; i < set.count; i++) {
      const at = [0, 1].map((j) => (from ? from[2 * i + j] + s * (set.z[2 * i + j] - from[2 * i + j]) : set.z[2 * i + j]));
      plot.dot(at[0], at[1], sizes ? 2.4 + t * (4.5 * Math.sqrt(sizes[i]) - 1.6) : 2.4, this.hue, 0.6);
    }
  }

  paintCloud(plot) {
    const { set, step } = this.walk;
    if (!step) return;
    const sizes = this.relative(set.logWeight);
    for (let i = 0; i < set.count; i++) plot.dot(set.z[2 * i], set.z[2 * i + 1], 1.4 + 7 * Math.sqrt(sizes[i]), i < set.K ? this.hue : this.ink.ink, i < set.K ? 0.7 : 0.8, i >= set.K);
  }

  relative(logWeight) { const top = highest(logWeight); return logWeight.map((v) => Math.exp(v - top)); }

  /** The encoder's ellipse, then the proposal, then accepted or rejected. */
  paintMove(plot, t) {
    const { last, trail } = this.walk, { g, ink } = plot, { q, to, from, yes } = last;
    trail.forEach((point, k) => { if (k) { g.globalAlpha = 0.1 + (0.6 * k) / trail.length; plot.line([trail[k - 1], point], this.hue, 1.4); g.globalAlpha = 1; } });
    g.strokeStyle = ink.ink; g.lineWidth = 1.5; g.setLineDash([4, 3]); g.beginPath();
    g.ellipse(plot.X(q[0]), plot.Y(q[1]), (2 * q[2] * plot.width) / (2 * REACH), (2 * q[3] * plot.height) / (2 * REACH), 0, 0, 7);
    g.stroke(); g.setLineDash([]);
    const a = from && !yes ? 0 : clip(2.5 * t - 0.7, 0, 1), start = from ?? to, x = start[0] + a * (to[0] - start[0]), y = start[1] + a * (to[1] - start[1]);
    if (t > 0.2) {
      if (yes) plot.dot(to[0], to[1], 4.5, ink.ink, 0.9, true);
      else { const [u, v] = [plot.X(to[0]), plot.Y(to[1])]; g.strokeStyle = ink.ink; g.lineWidth = 2.2; g.beginPath(); g.moveTo(u - 5, v - 5); g.lineTo(u + 5, v + 5); g.moveTo(u + 5, v - 5); g.lineTo(u - 5, v + 5); g.stroke(); }
    }
    plot.dot(x, y, 7, this.hue); plot.dot(x, y, 7, ink.paper, 1, true);
  }

  paintTrace() {
    const { walk, ink, exact } = this, most = 100;
    const strip = walk.kind !== "chain", count = strip ? Math.max(8, walk.strips.length) : most, begin = strip ? Math.max(0, walk.strips.length - 24) : Math.max(0, walk.trace.length - most);
    const plot = this.plot(".trace", { x: [begin, begin + (strip ? Math.min(count, 24) : most)], y: [-SPAN, SPAN], left: 8 });
    plot.inside((g) => {
      g.fillStyle = ink.wash;
      exact.weights.forEach((w, k) => {
        const [high, low] = [exact.means[k] + 2 * exact.sds[k], exact.means[k] - 2 * exact.sds[k]].map((v) => plot.Y(v));
        if (w > 0.005) g.fillRect(plot.left, high, plot.width, low - high);
      });
      if (strip) {
        const jitter = new Random(4);
        walk.strips.forEach((values, k) => values.forEach((v) => plot.dot(k + 0.5 + 0.55 * (jitter.uniform() - 0.5), v, 1.7, this.hue, 0.45)));
      } else {
        const points = walk.trace.slice(begin).map(([v], k) => [begin + k + 0.5, v]);
        if (walk.method !== "one_pass") plot.line(points, this.hue, 1.3);
        walk.trace.slice(begin).forEach(([v, yes], k, all) => {
          const radius = k === all.length - 1 ? 4.5 : 2.3;
          plot.dot(begin + k + 0.5, v, radius, yes ? this.hue : ink.paper);
          if (!yes) plot.dot(begin + k + 0.5, v, radius, this.hue, 1, true);
        });
      }
    });
    plot.axes({ xname: strip ? "x₁ by step" : walk.method === "one_pass" ? "x₁ by draw" : "x₁ by step (○ rejected)" });
    this.$(".trace").setAttribute("aria-label", `x1 over ${walk.step} steps; the shaded bands are the modes of the exact conditional.`);
  }
}

customElements.define("cvae-conditional", LiveConditional);
