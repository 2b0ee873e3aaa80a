// Importance weights of draws from the prior, as more and more times of a Brownian path become known.

const MODEL = new Model(DATA.model), TIMES = MODEL.columns, SHOWN = 60;
const PATH_FRAME = { x: [0, 1], y: [-2.6, 2.6], left: 36 };
const ORDERS = { forecast: "the past", gap: "both ends", scattered: "scattered times" };

/** The times that are known, in the order in which they become known. */
function reveal(kind) {
  const all = Array.from({ length: TIMES }, (_, j) => j);
  if (kind === "gap") return all.map((j) => (j % 2 ? TIMES - 1 - (j >> 1) : j >> 1));
  return kind === "scattered" ? Array.from(new Random(8).order(TIMES)) : all;
}

/** Mean and standard deviation of Brownian motion at every time, given its values at the known ones. */
function bridge(path, known) {
  const times = [0, ...known.map((j) => (j + 1) / TIMES).sort((a, b) => a - b)], value = (t) => (t ? path[Math.round(t * TIMES) - 1] : 0);
  return path.map((_, j) => {
    const t = (j + 1) / TIMES, before = times.filter((s) => s <= t).at(-1), after = times.find((s) => s >= t);
    if (after === undefined) return [value(before), Math.sqrt(t - before)];
    if (after === before) return [value(t), 0];
    const share = (t - before) / (after - before);
    return [value(before) + share * (value(after) - value(before)), Math.sqrt(share * (after - t))];
  });
}

/** Proposals from the prior: their decoded paths, column by column. They are weighed for any evidence. */
class Proposals {
  constructor(count, seed) {
    Object.assign(this, { count, made: 0, random: new Random(seed), loc: new Float32Array(count * TIMES), scale: new Float64Array(TIMES) });
  }

  make(n) {
    n = Math.min(n, this.count - this.made);
    const p = new Float64Array(2 * TIMES * n);
    MODEL.decode(this.random.normals(MODEL.latents * n), n, p);
    for (let i = 0; i < n; i++)
      for (let j = 0; j < TIMES; j++) { this.loc[j * this.count + this.made + i] = p[2 * TIMES * i + j]; this.scale[j] = p[2 * TIMES * i + TIMES + j]; }
    this.made += n; // the scale does not depend on z in these models
  }

  /** Add log p(x_j | z) of one more known time to the log weights. */
  weigh(logWeight, j, value) {
    const { loc, scale, count } = this, constant = -Math.log(scale[j]) - 0.5 * LOG_2PI;
    for (let i = 0; i < count; i++) { const r = (value - loc[j * count + i]) / scale[j]; logWeight[i] += constant - 0.5 * r * r; }
  }
}

class LiveWeights extends LiveElement {
  template() {
    const counts = [[1000, "1,000"], [10000, "10,000"], [50000, "50,000"]];
    return `<section aria-label="Live figure: importance weights collapse as more is known">
      <fieldset><legend>What becomes known</legend>${pills("order", Object.entries(ORDERS))}</fieldset>
      <fieldset><legend>Proposals from the prior</legend>${pills("count", counts.map(([n, label]) => [n, `${label} proposals`]))}</fieldset>
      <div class="plots">
        <div><canvas class="drag paths" role="img" aria-label="A path, known at some times, with the exact mean and band of the rest."></canvas></div>
        <div><canvas class="curve" role="img" aria-label="Effective proposals against known times."></canvas></div>
      </div>
      <div class="keys" aria-hidden="true"><span><i></i>exact mean and 90 % band</span><span><i class="redrawn"></i>${SHOWN} paths, resampled by weight</span></div>
      <div class="row"><label class="value" for="known">known: <output for="known"></output></label><input id="known" type="range" min="0" max="${TIMES - 1}" step="1"></div>
      <div class="row"><button class="again">Another path</button></div>
      <dl><div><dt>effective proposals</dt><dd class="worth"></dd></div><div><dt>largest weight</dt><dd class="largest"></dd></div>
        <div><dt>different paths among ${SHOWN}</dt><dd class="distinct"></dd></div><div><dt>worst mean, in exact sds</dt><dd class="error"></dd></div></dl>
      <p class="story"></p><div class="unseen" role="status" aria-live="polite"></div></section>`;
  }

  ready() {
    this.seed = 0; this.kind = "forecast"; this.count = 10000; this.pools = {};
    const slider = this.$("#known");
    this.known = slider.value = clip(Math.round(Number(this.getAttribute("known")) || 0), 0, TIMES - 1);
    for (const value of [this.kind, this.count]) this.shadowRoot.querySelector(`input[value="${value}"]`).checked = true;
    this.shadowRoot.addEventListener("change", ({ target }) => {
      if (target.name === "order") { this.kind = target.value; this.restart(); }
      if (target.name === "count") { this.count = Number(target.value); this.restart(false); }
      if (target === slider) this.tell();
    });
    slider.addEventListener("input", () => this.show(Number(slider.value)));
    this.drag(this.$(".paths"), PATH_FRAME, (x) => { slider.focus({ preventScroll: true }); this.show(clip(Math.round(x * TIMES), 0, TIMES - 1)); }, () => this.tell());
    this.$(".again").onclick = () => { this.seed++; this.restart(); };
    this.restart();
  }

  relook() { this.style.setProperty("--m", this.color("importance")); this.$(".redrawn").style.borderColor = this.color("importance"); }

  restart(anew = true) {
    if (anew) {
      const random = new Random(40 + this.seed);
      let at = 0;
      this.path = Array.from({ length: TIMES }, () => (at += random.normal() / Math.sqrt(TIMES)));
      this.order = reveal(this.kind);
      this.curves = {};
    }
    this.pool = this.pools[this.count] ??= new Proposals(this.count, this.count);
    this.curve = this.curves[this.count] ??= [this.count];
    this.running = new Float64Array(this.count);
    this.kept = [Float32Array.from(this.running)]; // log weights at every number of known times
    this.column = 0;
    this.curve.length = 1;
    this.weighed = null;
    this.told = false;
    this.change();
  }

  show(known) { this.known = known; this.$("#known").value = known; this.weighed = null; this.change(); }

  work(until) {
    const { pool } = this;
    while (pool.made < pool.count && performance.now() < until) pool.make(250);
    if (pool.made < pool.count) return true;
    while (this.column < TIMES - 1 && performance.now() < until) {
      const j = this.order[this.column++];
      pool.weigh(this.running, j, this.path[j]);
      this.curve.push(effective(this.running));
      this.kept.push(Float32Array.from(this.running));
      this.stale = true;
    }
    if (!this.weighed && this.kept[this.known]) { this.weigh(); this.stale = true; }
    if (this.column === TIMES - 1 && !this.told) { this.told = true; this.tell(); }
    return this.column < TIMES - 1;
  }

  weigh() {
    const { pool, known, path } = this, logWeight = this.kept[known], seen = this.order.slice(0, known);
    const top = highest(logWeight), weight = logWeight.map((v) => Math.exp(v - top)), total = weight.reduce((a, b) => a + b);
    const heavy = Array.from(weight.keys()).filter((i) => weight[i] > 1e-6 * total / pool.count);
    const redrawn = comb(logWeight, SHOWN, new Random(2)), exact = bridge(path, seen);
    const error = exact.map(([mean, sd], j) => {
      if (!sd) return 0;
      let ours = 0;
      for (const i of heavy) ours += (weight[i] / total) * pool.loc[j * pool.count + i];
      return Math.abs(ours - mean) / sd;
    });
    this.weighed = { seen, redrawn, exact, worth: effective(logWeight), largest: 1 / total, distinct: new Set(redrawn).size, error: Math.max(...error) };
    this.result = { known, proposals: pool.count, ...this.weighed };
  }

  get words() {
    const { weighed, pool, known } = this;
    const state = weighed.worth < 10 ? "The weights have collapsed: a handful of proposals speaks for all."
      : weighed.worth < 100 ? "Few proposals carry the weight, and the mean begins to wander."
        : "Enough proposals fit what is known.";
    return `${known} of ${TIMES} times known: ${whole(pool.count)} proposals are worth ${fixed(weighed.worth, weighed.worth < 10 ? 1 : 0)} equal ones. ${state}`;
  }

  tell() { if (this.weighed) this.say(this.words); this.change(); }

  paint() {
    if (!this.weighed) { this.put("output", String(this.known)); return; }
    const { weighed, pool } = this;
    this.put("output", `${this.known} of ${TIMES}`);
    this.$("#known").setAttribute("aria-valuetext", `${this.known} of ${TIMES} times known`);
    this.put(".worth", `${fixed(weighed.worth, weighed.worth < 10 ? 1 : 0)} <small>of ${whole(pool.count)}</small>`);
    this.put(".largest", percent(weighed.largest));
    this.put(".distinct", String(weighed.distinct));
    this.put(".error", fixed(weighed.error, 2));
    this.put(".story", this.words);
    this.paintPaths();
    this.paintCurve();
  }

  paintPaths() {
    const plot = this.plot(".paths", PATH_FRAME), { ink, weighed, pool, path } = this, hue = this.color("importance");
    const along = (value) => [[0, 0], ...path.map((_, j) => [(j + 1) / TIMES, value(j)])];
    plot.inside((g) => {
      const band = [...along((j) => weighed.exact[j][0] + 1.645 * weighed.exact[j][1]), ...along((j) => weighed.exact[j][0] - 1.645 * weighed.exact[j][1]).reverse()];
      g.fillStyle = ink.soft; g.globalAlpha = 0.22; g.beginPath();
      for (const [x, y] of band) g.lineTo(plot.X(x), plot.Y(y));
      g.fill();
      for (const i of weighed.redrawn) { g.globalAlpha = 0.3; plot.line(along((j) => pool.loc[j * pool.count + i]), hue, 1.2); }
      g.globalAlpha = 1;
      plot.line(along((j) => weighed.exact[j][0]), ink.ink, 2);
      for (const j of weighed.seen) plot.dot((j + 1) / TIMES, path[j], 3.4, ink.ink);
      if (this.kind === "forecast") {
        const x = this.known / TIMES, y = this.known ? path[this.known - 1] : 0;
        plot.line([[x, -3], [x, 3]], ink.mark, 1.5, [4, 4]);
        plot.dot(x, y, 7, ink.mark); plot.dot(x, y, 7, ink.paper, 1, true);
      }
    });
    plot.axes({ xs: [0, 0.5, 1], ys: [-2, 0, 2], xname: "time", yname: "path" });
    this.$(".paths").setAttribute("aria-label", `A path known at ${this.known} of ${TIMES} times, the exact mean and band of the rest, and ${weighed.distinct} different paths of the proposals.`);
  }

  paintCurve() {
    const plot = this.plot(".curve", { x: [0, TIMES - 1], y: [-0.15, 4.9], left: 46 }), { ink } = this, hue = this.color("importance");
    plot.inside(() => {
      plot.line([[0, 0], [TIMES, 0]], ink.rule, 1, [3, 3]);
      for (const [count, curve] of Object.entries(this.curves))
        plot.line(curve.map((v, k) => [k, Math.log10(v)]), Number(count) === this.count ? hue : ink.soft, Number(count) === this.count ? 2.2 : 1.2);
      plot.dot(this.known, Math.log10(this.weighed.worth), 6, ink.mark); plot.dot(this.known, Math.log10(this.weighed.worth), 6, ink.paper, 1, true);
    });
    plot.axes({ xs: [0, 10, 20, 30], ys: [0, 1, 2, 3, 4], xname: "known times", yname: "", name: (v) => whole(10 ** v) });
    plot.write("effective proposals", plot.left + plot.width - 8, plot.top + 8, { align: "right", color: ink.ink });
    this.$(".curve").setAttribute("aria-label", `Effective proposals against known times, on a logarithmic scale: from ${whole(this.count)} at none to ${fixed(this.curve.at(-1), 1)} at ${this.curve.length - 1}.`);
  }
}

customElements.define("cvae-weights", LiveWeights);
