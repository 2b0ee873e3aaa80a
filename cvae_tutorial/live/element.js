// What all live figures share: a panel that follows the page's theme, plots on canvas, and frames in which no more
// than some milliseconds of work are done.

const STYLE = `
:host { display: block; margin: 1.2rem 0; container-type: inline-size; text-align: left;
  --page: #ffffff; --words: #222832; --quiet: #48566b; --edge: #d1d5da; --tint: #f3f4f5; --key: #0a7d91;
  --paper: var(--pst-color-background, var(--jp-layout-color0, var(--page)));
  --ink: var(--pst-color-text-base, var(--jp-ui-font-color0, var(--words)));
  --soft: var(--pst-color-text-muted, var(--jp-ui-font-color1, var(--quiet)));
  --rule: var(--pst-color-border, var(--jp-border-color1, var(--edge)));
  --wash: var(--pst-color-surface, var(--jp-layout-color2, var(--tint)));
  --mark: var(--pst-color-primary, var(--jp-brand-color1, var(--key)));
  --font: var(--pst-font-family-base, var(--jp-ui-font-family, system-ui, sans-serif));
  font: 15px/1.45 var(--font); color: var(--ink); }
@media (prefers-color-scheme: dark) { :host { --page: #14181e; --words: #ced6dd; --quiet: #9ca4af; --edge: #48566b; --tint: #222832; --key: #3fb1c5; } }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
section { max-width: 48rem; padding: .8rem .9rem; border: 1px solid var(--rule); border-radius: 10px; background: var(--paper); }
fieldset { display: flex; flex-wrap: wrap; gap: .35rem; margin: 0 0 .6rem; padding: 0; border: 0; min-width: 0; }
legend, .unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.pill { position: relative; }
.pill input { position: absolute; inset: 0; margin: 0; opacity: 0; cursor: pointer; }
.pill span { display: flex; align-items: center; gap: .45em; min-height: 32px; padding: .1rem .7rem; border: 1px solid var(--rule); border-radius: 99px; font-size: 14px; }
.pill span::before { content: ""; width: .65em; height: .65em; border-radius: 50%; background: var(--own, var(--mark)); }
.pill input:checked + span { border-color: var(--own, var(--mark)); box-shadow: inset 0 0 0 1px var(--own, var(--mark)); background: var(--wash); font-weight: 600; }
.pill:hover span { border-color: var(--own, var(--mark)); }
.pill input:focus-visible + span, button:focus-visible, input[type=range]:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px; }
.plots { display: grid; grid-template-columns: minmax(0, 1.2fr) minmax(0, 1fr); gap: .2rem .4rem; }
.plots > div { position: relative; height: 300px; }
.plots > .low { height: 230px; }
.plots > .wide { grid-column: 1 / -1; }
canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
canvas.drag { cursor: ew-resize; touch-action: pan-y; }
.keys { display: flex; flex-wrap: wrap; justify-content: flex-end; gap: .1rem 1rem; font-size: 13px; color: var(--soft); }
.keys b { font-weight: 400; }
.keys span { display: inline-flex; align-items: center; gap: .4em; }
.keys i { width: 20px; border-top: 2.5px solid var(--ink); }
.keys .dashed { border-top: 2px dashed var(--mark); }
.keys .block { height: 10px; border: 1px solid var(--m); background: color-mix(in srgb, var(--m) 55%, var(--paper)); }
.row { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem .8rem; margin-top: .5rem; }
label.value { min-width: 6em; font-weight: 600; font-variant-numeric: tabular-nums; }
input[type=range] { flex: 1 1 180px; min-width: 0; height: 30px; margin: 0; accent-color: var(--mark); }
button { min-height: 36px; padding: .15rem .85rem; border: 1px solid var(--rule); border-radius: 8px; background: var(--wash); color: inherit; font: inherit; font-size: 14px; cursor: pointer; }
button:hover { border-color: var(--soft); }
button[aria-pressed=true] { border-color: var(--mark); box-shadow: inset 0 0 0 1px var(--mark); font-weight: 600; }
.bar { height: 4px; margin-top: .6rem; border-radius: 2px; background: var(--wash); overflow: hidden; }
.bar i { display: block; height: 100%; transform: scaleX(0); transform-origin: 0 0; background: var(--m, var(--mark)); }
dl { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: .4rem .8rem; margin: .6rem 0 0; padding: .55rem .7rem; border-radius: 8px; background: var(--wash); }
dt { font-size: 13px; line-height: 1.25; color: var(--soft); }
dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }
dd small { font-size: 13px; font-weight: 400; color: var(--soft); }
p { margin: .55rem 0 0; font-size: 14px; color: var(--soft); }
p b { color: var(--ink); font-weight: 600; }
p.story { min-height: 2.9em; }
@container (max-width: 500px) {
  section { padding: .6rem .55rem; }
  .plots { gap: .1rem; }
  .plots > div { height: 255px; }
  .plots > .low { height: 210px; }
  .pill span { min-height: 36px; padding: .1rem .6rem; }
  dl { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  p.story { min-height: 4.4em; }
}
@media print { fieldset, .row, .bar { display: none; } }
`;

const BUDGET = 9; // milliseconds of work in a frame
const minus = (s) => s.replace("-", "\u2212");
const fixed = (v, digits = 2) => minus(v.toFixed(digits));
const percent = (v) => `${(100 * v).toFixed(1)}\u00a0%`;
const whole = (v) => Math.round(v).toLocaleString("en");
const pills = (name, options) => options.map(([value, label]) =>
  `<label class="pill" data-value="${value}"><input type="radio" name="${name}" value="${value}"><span>${label}</span></label>`).join("");

/** A plot on a canvas: scales, axes and marks, in the units of the data. */
class Plot {
  constructor(canvas, figure, { x, y, left = 36, right = 14, top = 8, bottom = 38 }) {
    const { width, height } = canvas.getBoundingClientRect(), dense = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * dense), Math.round(height * dense)];
    if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
    const g = canvas.getContext("2d");
    Object.assign(this, { g, x, y, ink: figure.ink, left, top, width: width - left - right, height: height - top - bottom });
    g.setTransform(dense, 0, 0, dense, 0, 0);
    g.clearRect(0, 0, width, height);
    g.font = `12px ${figure.ink.font}`;
    g.lineJoin = "round";
  }

  X(v) { return this.left + ((v - this.x[0]) / (this.x[1] - this.x[0])) * this.width; }
  Y(v) { return this.top + ((this.y[1] - v) / (this.y[1] - this.y[0])) * this.height; }

  /** Marks within the frame. */
  inside(draw) {
    const { g } = this;
    g.save(); g.beginPath(); g.rect(this.left, this.top, this.width, this.height); g.clip();
    draw(g);
    g.restore();
  }

  line(points, color, width = 1.5, dash = []) {
    const { g } = this;
    g.strokeStyle = color; g.lineWidth = width; g.setLineDash(dash); g.beginPath();
    let down = false; // null lifts the pen
    for (const point of points) {
      if (!point) { down = false; continue; }
      const [x, y] = [this.X(point[0]), this.Y(point[1])];
      if (down) g.lineTo(x, y); else g.moveTo(x, y);
      down = true;
    }
    g.stroke(); g.setLineDash([]);
  }

  dot(x, y, radius, color, alpha = 1, hollow = false) {
    const { g } = this;
    g.globalAlpha = alpha; g.beginPath(); g.arc(this.X(x), this.Y(y), radius, 0, 7);
    if (hollow) { g.strokeStyle = color; g.lineWidth = 1.3; g.stroke(); } else { g.fillStyle = color; g.fill(); }
    g.globalAlpha = 1;
  }

  /** Histogram of the first n draws along y, as one area. */
  histogram(draws, n, color, alpha) {
    const { g, y } = this, bins = new Float64Array(clip(2 * Math.round(1.7 * Math.sqrt(n)), 18, 72)), width = (y[1] - y[0]) / bins.length;
    for (let i = 0; i < n; i++) { const k = Math.floor((draws[i] - y[0]) / width); if (k >= 0 && k < bins.length) bins[k] += 1 / (n * width); }
    g.fillStyle = color; g.globalAlpha = alpha; g.beginPath(); g.moveTo(this.X(0), this.Y(y[0]));
    bins.forEach((d, k) => { for (const edge of [k, k + 1]) g.lineTo(this.X(d), this.Y(y[0] + edge * width)); });
    g.lineTo(this.X(0), this.Y(y[1])); g.fill();
    g.globalAlpha = 1;
  }

  /** A density along y, as a line that ends where the density is nothing. */
  density(points, color, width, dash) { this.line(points.map((point) => (point[0] < 0.003 ? null : point)), color, width, dash); }

  write(words, x, y, { align = "center", base = "top", color = this.ink.soft } = {}) {
    const { g } = this;
    g.textAlign = align; g.textBaseline = base; g.fillStyle = color;
    g.fillText.call(g, words, x, y);
  }

  axes({ xs = [], ys = [], xname = "", yname = "", name = String }) {
    const { g, left, top, width, height } = this;
    g.strokeStyle = this.ink.rule; g.lineWidth = 1;
    g.strokeRect(left + 0.5, top + 0.5, width - 1, height - 1);
    for (const v of xs) this.write(minus(String(v)), this.X(v), top + height + 5);
    for (const v of ys) this.write(minus(name(v)), left - 5, this.Y(v), { align: "right", base: "middle" });
    this.write(xname, left + width / 2, top + height + 20, { color: this.ink.ink });
    if (yname) {
      g.save(); g.translate(9, top + height / 2); g.rotate(-Math.PI / 2);
      this.write(yname, 0, 0, { base: "middle", color: this.ink.ink });
      g.restore();
    }
  }
}

class LiveElement extends HTMLElement {
  connectedCallback() {
    if (!this.shadowRoot) {
      const root = this.attachShadow({ mode: "open" });
      root.innerHTML = `<style>${STYLE}</style>${this.template()}`;
      this.$ = (selector) => root.querySelector(selector);
      this.calm = matchMedia("(prefers-reduced-motion: reduce)");
      this.longest = 0; // piece of work so far, in milliseconds
      this.ready();
    }
    // The book's theme puts a white sheet under what a cell shows in the dark; this panel needs none.
    const sheet = this.closest(".text_html");
    if (sheet) Object.assign(sheet.style, { background: "none", color: "inherit", padding: "0" });
    this.stopWatching = this.watch();
    this.look();
  }

  disconnectedCallback() { this.stopWatching?.(); }

  watch() {
    const look = () => this.look(), mutations = new MutationObserver(look), scheme = matchMedia("(prefers-color-scheme: dark)");
    for (const node of [document.documentElement, document.body])
      mutations.observe(node, { attributes: true, attributeFilter: ["class", "data-theme", "data-mode", "data-jp-theme-light", "data-jp-theme-name"] });
    scheme.addEventListener("change", look);
    const sizes = new ResizeObserver(() => this.change());
    sizes.observe(this.$("section"));
    const views = new IntersectionObserver((entries) => { this.visible = entries.at(-1).isIntersecting; this.wake(); });
    views.observe(this);
    return () => { mutations.disconnect(); sizes.disconnect(); views.disconnect(); scheme.removeEventListener("change", look); };
  }

  /** Read the page's colours. */
  look() {
    const style = getComputedStyle(this), ink = {};
    for (const name of ["paper", "ink", "soft", "rule", "wash", "mark", "font"]) ink[name] = style.getPropertyValue(`--${name}`).trim();
    const channels = getComputedStyle(this.$("section")).backgroundColor.match(/[\d.]+/g)?.map(Number) ?? [255, 255, 255];
    ink.dark = 0.3 * channels[0] + 0.6 * channels[1] + 0.1 * channels[2] < 128;
    this.ink = ink;
    for (const pill of this.shadowRoot.querySelectorAll(".pill"))
      if (DATA.colors[pill.dataset.value]) pill.style.setProperty("--own", this.color(pill.dataset.value));
    this.relook?.();
    this.change();
  }

  /** A method's colour, lighter where the page is dark. */
  color(method) {
    const hex = DATA.colors[method].slice(1).match(/../g).map((h) => parseInt(h, 16));
    return `rgb(${hex.map((v) => Math.round(this.ink.dark ? v + 0.4 * (255 - v) : v)).join(" ")})`;
  }

  plot(selector, frame) { return new Plot(this.$(selector), this, frame); }

  put(selector, markup) { const node = this.$(selector); if (node.innerHTML !== markup) node.innerHTML = markup; }

  say(words) { this.$("[role=status]").textContent = words; }

  change() { this.stale = true; this.wake(); }

  wake() { if (!this.waiting) { this.waiting = true; requestAnimationFrame((now) => this.frame(now)); } }

  frame(now) {
    this.waiting = false;
    if (!this.isConnected || this.visible === false) return;
    const begun = performance.now(), busy = this.work(begun + BUDGET, now);
    this.longest = Math.max(this.longest, performance.now() - begun);
    // Readers who asked for less motion see a run now and then, not sixty times a second.
    const hold = this.calm.matches && busy && !this.touched && now - (this.painted ?? 0) < 500;
    if (this.stale && !hold) { this.stale = false; this.painted = now; this.paint(); }
    if (busy || this.stale) this.wake();
  }

  /** Let the reader drag along a canvas: `to` receives the position in the plot's units. */
  drag(canvas, frame, to, done) {
    const at = (event) => {
      const box = canvas.getBoundingClientRect(), { left, right = 14, x } = frame;
      return x[0] + ((event.clientX - box.left - left) / (box.width - left - right)) * (x[1] - x[0]);
    };
    let held = false;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      held = true;
      canvas.setPointerCapture(event.pointerId);
      to(at(event));
      event.preventDefault();
    });
    canvas.addEventListener("pointermove", (event) => { if (held) to(at(event)); });
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, () => { if (held) { held = false; done(); } });
  }
}
