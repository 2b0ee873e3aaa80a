// Eight chains and their R-hat, started where the reader wants them.

const MODEL = new Model(DATA.model), CHAINS = 8, STEPS = 600, SPAN = 3;
const TESTED = ["pseudo_gibbs", "metropolis_within_gibbs"];
const STARTS = { modes: "in the modes, as set below", prior: "drawn from the prior" };

class LiveRHat extends LiveElement {
  template() {
    return `<section aria-label="Live figure: R-hat of eight chains, by where they start">
      <fieldset><legend>Method</legend>${pills("method", TESTED.map((m) => [m, DATA.labels[m]]))}</fieldset>
      <fieldset><legend>Where the chains start</legend>${pills("start", Object.entries(STARTS))}</fieldset>
      <div class="plots">
        <div><canvas class="trace" role="img" aria-label="X1 of the chains over their steps."></canvas></div>
        <div><canvas class="density" role="img" aria-label="Histogram of all draws beside the exact density."></canvas></div>
        <div class="low wide"><canvas class="curve" role="img" aria-label="R-hat against the number of steps."></canvas></div>
      </div>
      <div class="keys" aria-hidden="true"><span><i></i>exact</span><span><i class="dashed"></i>R-hat = 1.01</span><span><i class="block"></i>all chains</span></div>
      <div class="row"><label class="value" for="lower">start in the lower mode: <output for="lower"></output></label><input id="lower" type="range" min="0" max="${CHAINS}" step="1"></div>
      <div class="row"><label class="value" for="x0">X₀ = <output class="at" for="x0"></output></label><input id="x0" type="range" min="-2" max="2" step="0.25"></div>
      <div class="row"><button class="again">Run again</button></div>
      <dl><div><dt>steps of each chain</dt><dd class="count"></dd></div><div><dt>R-hat (rank-normalised, split)</dt><dd class="rhat"></dd></div>
        <div><dt>W₁ to the exact answer</dt><dd class="w1"></dd></div><div><dt>weight of the upper mode</dt><dd class="mode"></dd></div></dl>
      <p class="story"></p><div class="unseen" role="status" aria-live="polite"></div></section>`;
  }

  ready() {
    this.seed = 0; this.method = "metropolis_within_gibbs"; this.start = "modes";
    const lower = this.$("#lower"), x0 = this.$("#x0");
    lower.value = clip(Math.round(Number(this.getAttribute("lower")) || 0), 0, CHAINS);
    x0.value = clip(Number(this.getAttribute("x0") ?? 1) || 0, -2, 2);
    for (const value of [this.method, this.start]) this.shadowRoot.querySelector(`input[value=${value}]`).checked = true;
    this.shadowRoot.addEventListener("change", ({ target }) => {
      if (target.name === "method" || target.name === "start") { this[target.name] = target.value; this.relook(); this.restart(); }
    });
    for (const slider of [lower, x0]) slider.addEventListener("input", () => {
      if (slider === lower) { this.start = "modes"; this.shadowRoot.querySelector("input[value=modes]").checked = true; }
      this.restart();
    });
    this.$(".again").onclick = () => { this.seed++; this.restart(); };
    this.restart();
  }

  relook() { this.style.setProperty("--m", this.color(this.method)); }

  restart() {
    const random = new Random(70 + this.seed), x0 = Number(this.$("#x0").value), exact = (this.exact = new Exact(DATA.mixture, x0));
    this.lower = Number(this.$("#lower").value);
    const start = Array.from({ length: CHAINS }, (_, i) => {
      const k = i < this.lower ? 1 - exact.upper : exact.upper;
      return exact.means[k] + exact.sds[k] * random.normal();
    });
    this.set = new Chains(MODEL, x0, CHAINS, random, this.method === "metropolis_within_gibbs", this.start === "modes" ? start : null);
    this.traces = Array.from(this.set.column, (v) => [v]);
    this.curve = [];
    this.said = false;
    this.change();
  }

  work(until, now) {
    // Some 250 steps a second, so that the eye can follow.
    const pace = this.calm.matches ? STEPS : clip(Math.round((now - (this.before ?? now)) / 4), 1, 40);
    this.before = now;
    for (let k = 0; k < pace && this.traces[0].length <= STEPS && performance.now() < until; k++) {
      this.set.step();
      this.set.column.forEach((v, c) => this.traces[c].push(v));
      const steps = this.traces[0].length - 1;
      if (steps % 25 === 0) this.curve.push([steps, rHat(this.traces.map((t) => t.slice(1)))]);
      this.stale = true;
    }
    return this.traces[0].length <= STEPS;
  }

  paint() {
    const { exact, traces, ink } = this, steps = traces[0].length - 1, draws = traces.flatMap((t) => t.slice(1)), n = draws.length;
    this.hue = this.color(this.method);
    const value = this.curve.at(-1)?.[1], w1 = n && wasserstein(draws, n, exact), base = n && floor(n, exact), up = n && exact.upperShare(draws, n);
    const weight = exact.weights[exact.upper], done = steps === STEPS;
    this.put("output", String(this.lower)); this.put(".at", fixed(Number(this.$("#x0").value)));
    this.$("#lower").setAttribute("aria-valuetext", `${this.lower} of ${CHAINS} chains`);
    this.put(".count", `${steps} <small>of ${STEPS}</small>`);
    this.put(".rhat", value === undefined ? "…" : fixed(value, value < 1.1 ? 3 : 2));
    this.put(".w1", n ? `${fixed(w1, 3)} <small>${fixed(w1 / base, 1)} floors</small>` : "…");
    this.put(".mode", `${n ? percent(up) : "…"} <small>exact ${percent(weight)}</small>`);
    const wrong = w1 > 4 * base, agree = value < 1.01, mild = value < 1.1;
    const verdict = !done ? "The chains are on their way."
      : agree && wrong ? "<b>R-hat is content, and the answer is wrong.</b> The chains agree with one another; what none of them has visited, R-hat cannot see."
        : mild && wrong ? "R-hat is a little above its limit, and the answer is far off: agreement among chains says nothing of places that they have not seen."
          : !mild ? "<b>R-hat warns.</b> The chains sit in different places: they still show where they started."
            : "R-hat is near 1, and so are the floors of W₁: the chains agree, and they are right.";
    this.put(".story", verdict);
    if (done && !this.said) {
      this.said = true;
      this.result = { rHat: value, w1, floor: base, upper: up };
      this.say(`${verdict.replace(/<\/?b>/g, "")} R-hat ${fixed(value, 3)}, W1 ${fixed(w1, 3)} with a floor of ${fixed(base, 3)}, weight of the upper mode ${percent(up)} for ${percent(weight)}.`);
    }
    this.paintTrace(steps, verdict.replace(/<\/?b>/g, ""));
    const density = this.plot(".density", { x: [0, 2.3], y: [-SPAN, SPAN], left: 8 });
    density.inside(() => {
      if (n) density.histogram(draws, n, this.hue, 0.6);
      const curve = Array.from({ length: 301 }, (_, i) => -SPAN + (i * SPAN) / 150).map((v) => [exact.density(v), v]);
      density.density(curve, ink.ink, 2.2);
    });
    density.axes({ xs: [0, 1, 2], xname: "density" });
    this.$(".density").setAttribute("aria-label", `Histogram of all draws beside the exact density. Weight of the upper mode ${n ? percent(up) : "not known yet"} for ${percent(weight)}.`);
    const plot = this.plot(".curve", { x: [0, STEPS], y: [0, Math.log10(5)], left: 40 });
    const at = (v) => Math.log10(1 + 100 * Math.min(v - 1, 3.5)) / 4; // a scale that shows 1.01 and 3 alike
    plot.y = [0, at(4.5)];
    plot.inside(() => {
      plot.line([[0, at(1.01)], [STEPS, at(1.01)]], ink.mark, 1.6, [5, 4]);
      plot.line(this.curve.map(([k, v]) => [k, at(Math.max(v, 1))]), this.hue, 2.2);
      for (const [k, v] of this.curve) plot.dot(k, at(Math.max(v, 1)), 3, this.hue);
    });
    plot.axes({ xs: [0, 200, 400, 600], ys: [1, 1.01, 1.1, 2].map(at), name: (v) => String([1, 1.01, 1.1, 2].find((r) => at(r) === v)), xname: "steps", yname: "" });
    plot.write("R-hat so far", plot.left + plot.width - 8, plot.top + 8, { align: "right", color: ink.ink });
    this.$(".curve").setAttribute("aria-label", `R-hat against the number of steps; now ${value === undefined ? "not known" : fixed(value, 3)}.`);
  }

  paintTrace(steps, verdict) {
    const { exact, ink } = this, plot = this.plot(".trace", { x: [0, STEPS], y: [-SPAN, SPAN], left: 36 });
    plot.inside((g) => {
      g.fillStyle = ink.wash;
      exact.weights.forEach((w, k) => {
        const [high, low] = [exact.means[k] + 2 * exact.sds[k], exact.means[k] - 2 * exact.sds[k]].map((v) => plot.Y(v));
        if (w > 0.005) g.fillRect(plot.left, high, plot.width, low - high);
      });
      this.traces.forEach((trace) => {
        g.globalAlpha = 0.65;
        plot.line(trace.map((v, k) => [k, v]), this.hue, 1);
        g.globalAlpha = 1;
      });
      this.traces.forEach((trace) => plot.dot(0, trace[0], 5, this.hue));
      this.traces.forEach((trace) => plot.dot(steps, trace.at(-1), 3.5, ink.ink));
    });
    plot.axes({ xs: [0, 300, 600], ys: [-2, 0, 2], xname: "step", yname: "X₁" });
    this.$(".trace").setAttribute("aria-label", `X1 of ${CHAINS} chains over ${steps} steps; shaded bands are the modes of the exact conditional. ${verdict}`);
  }
}

customElements.define("cvae-rhat", LiveRHat);
