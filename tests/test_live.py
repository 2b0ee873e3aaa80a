"""The live figures: their JavaScript against the package, what a notebook keeps of them, and their use in a browser."""

import base64
import json
import re
import shutil
import subprocess
import warnings

import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_output

import cvae_tutorial as ct
import gates
from cvae_tutorial import live
from cvae_tutorial.distances import iid_floor, wasserstein

BROWSER = next(
    (path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")) if path), None
)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
NODE = shutil.which("node")
FIGURES = {"conditional": live.conditional(), "weights": live.weights(), "rhat": live.r_hat()}
METHODS = ["one_pass", "pseudo_gibbs", "metropolis_within_gibbs", "importance", "lair", "tempered_smc"]


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("no chromium or chrome on this machine: the live figures are not looked at")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=QUIET)
        yield started
        started.close()


def source(name, change=None):
    """A script of the figures, or a copy of it that a (text, new text) breaks."""
    text = (live._HERE / f"{name}.js").read_text(encoding="utf8")
    if change:
        assert text.count(change[0]) == 1, change[0]
        text = text.replace(*change)
    return text


@pytest.fixture(scope="module")
def run(request):
    """Run JavaScript after `core.js`: in the browser, or in node where there is no browser."""
    page = request.getfixturevalue("browser").new_page() if BROWSER else None
    if page is None and NODE is None:
        pytest.skip("nothing on this machine runs JavaScript: no chromium, no node")

    def evaluate(code, model="two_ridges", change=None, extra="", **given):
        data = json.dumps(live.figure_data(model)), json.dumps(given)
        body = f"const DATA = {data[0]}, GIVEN = {data[1]};\n{source('core', change)}\n{extra}\n{code}"
        if page is not None:
            return page.evaluate(f"(() => {{ {body} }})()")
        call = f"process.stdout.write(JSON.stringify((() => {{ {body} }})()));"
        done = subprocess.run([NODE, "-"], input=call, capture_output=True, text=True, timeout=300, check=True)
        return json.loads(done.stdout)

    yield evaluate
    if page is not None:
        page.close()


# ---------------------------------------------------------------- networks, exact answer, distances

NETWORKS = """
const model = new Model(DATA.model), z = new Float64Array(2 * GIVEN.n * model.latents);
const x = new Float64Array(2 * GIVEN.n * model.columns);
model.decode(GIVEN.z.flat(), GIVEN.n, x);
model.encode(GIVEN.x.flat(), GIVEN.n, z);
return [Array.from(x), Array.from(z)];
"""


def network_error(run, name, change=None):
    """Largest difference between decoder and encoder in JavaScript and in Keras."""
    vae, rng = ct.load_vae(name), np.random.default_rng(0)
    z = rng.standard_normal((200, vae.latent_dim)).astype("float32")
    x = vae.decode(z)[0].numpy() + 0.1 * rng.standard_normal((200, vae.num_features)).astype("float32")
    found = run(NETWORKS, model=name, change=change, n=200, z=z.tolist(), x=x.tolist())
    ours = [np.reshape(a, (200, -1)) for a in found]
    theirs = [np.concatenate([a.numpy() for a in pair], axis=1) for pair in (vae.decode(z), vae.encode(x))]
    return max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", ["two_ridges", "paths_brownian"])
def test_networks_are_those_of_keras(run, name):
    assert network_error(run, name) < 1e-5


@pytest.mark.parametrize(
    "change",
    [
        ("value[i] > 0) {", "value[i] > 0.001) {"),
        ("this.minScale + softplus", "softplus"),
        ("1e-4 + softplus", "softplus"),
    ],
    ids=["units cut", "no least scale", "no least spread"],
)
def test_a_network_that_is_a_little_wrong_is_noticed(run, change):
    assert network_error(run, "two_ridges", change) > 1e-5


@pytest.mark.parametrize("x0", [-2.0, 0.0, 1.0])
def test_distances_are_those_of_the_package(run, x0):
    exact = ct.two_ridges().condition({0: x0})
    draws = exact.sample(400, seed=1)[:, 0] * 1.1
    code = """
    const exact = new Exact(DATA.mixture, GIVEN.x0), n = GIVEN.draws.length;
    return [wasserstein(GIVEN.draws, n, exact), floor(n, exact), exact.upperShare(GIVEN.draws, n),
            GIVEN.draws.map((v) => exact.cdf(v)), GIVEN.draws.map((v) => exact.density(v))];
    """
    w1, floor, upper, cdf, density = run(code, x0=x0, draws=draws.tolist())
    assert w1 == pytest.approx(wasserstein(draws, exact), abs=2e-4)
    replicates = iid_floor(wasserstein, exact, 400, replicates=60)
    assert abs(floor - replicates.mean) < 4 * replicates.std / 60**0.5
    assert np.allclose(cdf, exact.cdf(draws), atol=1e-6)
    assert np.allclose(density, exact.prob(draws), atol=1e-6)
    assert upper == pytest.approx(upper_share(draws, x0), abs=1e-6)


def upper_share(draws, x0):
    exact = ct.two_ridges().condition({0: x0})
    return exact.responsibilities(np.ravel(draws))[:, np.argmax(exact.means[:, 0])].mean()


@pytest.mark.parametrize("method", ["pseudo_gibbs", "metropolis_within_gibbs"])
def test_r_hat_is_that_of_the_package(run, method):
    sampler = ct.samplers.as_sampler(method)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ct.SamplingWarning)
        draws = ct.sample_conditional(
            ct.load_vae("two_ridges"), {0: 1.0}, 800, type(sampler)(num_chains=8, warmup=20, thin=1), progress=False
        )
    chains = draws.chains[0, :, :, 1].astype(float)
    ours = run("return rHat(GIVEN.chains)", chains=chains.tolist())
    assert ours == pytest.approx(float(draws.r_hat[0, 1]), rel=1e-3)


# ---------------------------------------------------------------- methods

X0, NUM, REPLICATES = 1.0, 160, 16
RUN = """
const model = new Model(DATA.model), pool = new Pool(model), exact = new Exact(DATA.mixture, GIVEN.x0), out = [];
let most = 0;
for (let seed = 0; seed < GIVEN.replicates; seed++) {
  const own = GIVEN.method === "importance" ? new Pool(model, 100 + seed) : pool;
  const job = { model, pool: own, x0: GIVEN.x0, num: GIVEN.num, random: new Random(seed) };
  for (let calls = model.calls, it = RUNS[GIVEN.method](job); !it.next().done; calls = model.calls)
    most = Math.max(most, model.calls - calls);
  out.push([Array.from(job.draws), job.acceptance ?? 0]);
}
return [out, most];
"""


@pytest.fixture(scope="module")
def theirs():
    """Replicates by the package, each method's made once: rows of (W1, upper weight, acceptance)."""
    vae, done = ct.load_vae("two_ridges"), {}

    def replicates(method):
        if method not in done:
            rows = np.tile([X0, np.nan], (REPLICATES, 1))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ct.SamplingWarning)
                draws = ct.sample_conditional(vae, rows, NUM, method, seed=0, progress=False)
            rates = np.nan_to_num(np.asarray(draws.acceptance, float))
            done[method] = np.array([measured(x[:, 1], rate) for x, rate in zip(draws.values, rates, strict=True)])
        return done[method]

    return replicates


def measured(draws, acceptance):
    exact = ct.two_ridges().condition({0: X0})
    return wasserstein(draws, exact), upper_share(draws, X0), acceptance


def ours(run, method, change=None):
    found, most = run(RUN, change=change, method=method, x0=X0, num=NUM, replicates=REPLICATES)
    assert all(len(draws) == NUM for draws, _ in found)
    return np.array([measured(np.array(draws), rate) for draws, rate in found]), most


def disagreement(a, b):
    """Largest difference of the means of replicates, in standard errors."""
    error = np.sqrt((a.var(0, ddof=1) + b.var(0, ddof=1)) / REPLICATES)
    return (np.abs(a.mean(0) - b.mean(0)) / np.maximum(error, 1e-3)).max()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_methods_are_those_of_the_package(run, theirs, method):
    found, most = ours(run, method)
    assert disagreement(found, theirs(method)) < 4.5
    assert most <= 700  # passes through the networks in one piece of work: some four milliseconds


BROKEN = {
    "one_pass": ("x[2 * i] = x0; x[2 * i + 1] = p[", "x[2 * i] = p[4 * i]; x[2 * i + 1] = p["),
    "pseudo_gibbs": ("+ logQ(z, i, q, i) - logQ(zNew, i, q, i);", ";"),
    "metropolis_within_gibbs": ("+ logQ(z, i, q, i) - logQ(zNew, i, q, i);", ";"),
    "importance": ("w[i] = logNormal(x0,", "w[i] = 0.2 * logNormal(x0,"),
    "lair": ("let mixture = R * Math.exp(prior);", "let mixture = 0;"),
    "tempered_smc": ("if (!walks) ratio += ", "if (walks && !walks) ratio += "),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_is_broken_is_noticed(run, theirs, method):
    found, _ = ours(run, method, BROKEN[method])
    assert disagreement(found, theirs(method)) > 4.5


def test_weights_of_paths_are_those_of_the_package(run):
    """The same latents have the same weights, and the answer they are held against is the exact one."""
    vae, rng = ct.load_vae("paths_brownian"), np.random.default_rng(0)
    z, path = rng.standard_normal((50, vae.latent_dim)).astype("float32"), rng.standard_normal(32).cumsum() / 32**0.5
    code = """
    const order = reveal("gap").slice(0, 6), p = new Proposals(50, 1), logWeight = new Float64Array(50);
    p.random = { normals: () => Float64Array.from(GIVEN.z.flat()) };
    p.make(50);
    for (const j of order) p.weigh(logWeight, j, GIVEN.path[j]);
    return [order, Array.from(logWeight), bridge(GIVEN.path, order), effective(logWeight)];
    """
    script = source("weights").split("class LiveWeights")[0]
    order, weight, exact, worth = run(code, model="paths_brownian", extra=script, z=z.tolist(), path=path.tolist())
    assert order == [0, 31, 1, 30, 2, 29]
    density = vae.likelihood.log_prob(vae.decode(z), path.astype("float32")).numpy()[:, order].sum(1)
    assert np.allclose(weight, density, rtol=1e-4)
    assert worth == pytest.approx(np.exp(density).sum() ** 2 / np.exp(2 * density).sum(), rel=1e-3)
    conditional = ct.fractional_brownian_motion(0.5, 32).condition({j: path[j] for j in order})
    mean, sd = np.array(exact).T
    missing = np.setdiff1d(np.arange(32), order)
    assert np.allclose(mean[missing], conditional.mean) and np.allclose(sd[missing], conditional.std)
    assert np.allclose(mean[order], path[order]) and np.allclose(sd[order], 0)


# ---------------------------------------------------------------- what a notebook keeps


@pytest.mark.parametrize("name", FIGURES)
def test_output_is_small_text_that_the_gates_read(name):
    figure = FIGURES[name]
    html = figure._repr_html_()
    assert len(html) < 200_000 and html == figure._repr_html_()
    assert "://" not in html and html.count("</script") == 1
    assert gates.compare_text(html, html) == []
    data = {"text/html": html, "text/plain": repr(figure)}
    cell = new_code_cell("x", outputs=[new_output("execute_result", data=data)])
    assert gates._check_code(cell) == []
    assert repr(figure).startswith("Live figure: ") and len(figure.alt) > 60


@pytest.mark.parametrize("name", FIGURES)
def test_pictures_have_labels_before_they_are_drawn(name):
    canvases = re.findall(r"<canvas [^>]*>", FIGURES[name]._repr_html_())
    assert len(canvases) >= 2 and all('role="img" aria-label="' in c for c in canvases)


def test_a_method_that_the_figure_has_not_is_refused():
    with pytest.raises(ValueError, match="method must be one of one_pass, .*, got 'auto'"):
        live.conditional(method="auto")


@pytest.mark.parametrize("name", ["two_ridges", "paths_brownian"])
def test_weights_are_the_published_ones_to_the_bit(name):
    stored = live.figure_data(name)["model"]
    flat = np.frombuffer(base64.urlsafe_b64decode(stored["weights"]), "<f4")
    published = ct.load_vae(name).get_weights()
    assert np.array_equal(flat, np.concatenate([np.ravel(a) for a in published]))
    assert stored["shapes"] == [list(np.shape(a)) for a in published]


def test_a_change_of_the_weights_changes_the_output(monkeypatch):
    before = FIGURES["weights"]._repr_html_()
    monkeypatch.setattr(live, "figure_data", lambda name: {"model": name})
    assert FIGURES["weights"]._repr_html_() != before


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("live")
    head = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Live</title>'
    head += '<meta name="viewport" content="width=device-width, initial-scale=1"></head><body><main><h1>Live</h1>'
    for name, figure in FIGURES.items():
        page = f'{head}<div class="text_html">{figure._repr_html_()}</div></main></body></html>'
        (root / f"{name}.html").write_text(page, encoding="utf8")
    return root


@pytest.fixture()
def opened(browser, folder):
    contexts = []

    def open_page(name, width=1000, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.complaints = []
        page.on("console", lambda m: page.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: page.complaints.append(str(e)))
        page.goto((folder / f"{name}.html").as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()


def result(page, name):
    page.wait_for_function(f"document.querySelector('cvae-{name}').result", timeout=120_000)
    return page.evaluate(f"document.querySelector('cvae-{name}').result")


def colour(page, name):
    code = (
        f"getComputedStyle(document.querySelector('cvae-{name}').shadowRoot.querySelector('section')).backgroundColor"
    )
    return np.mean([float(v) for v in re.findall(r"[\d.]+", page.evaluate(code))[:3]])


def inked(page, name):
    """How many pixels of each canvas that is shown are drawn upon."""
    return page.evaluate(
        """name => [...document.querySelector(name).shadowRoot.querySelectorAll('canvas')]
          .filter(c => c.offsetParent).map(c => {
            const copy = new OffscreenCanvas(c.width, c.height).getContext('2d', { willReadFrequently: true });
            copy.drawImage(c, 0, 0);
            return copy.getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 == 3 && v > 0).length;
          })""",
        f"cvae-{name}",
    )


@pytest.mark.slow
@pytest.mark.parametrize("look", ["light", "dark", "phone"])
@pytest.mark.parametrize("name", FIGURES)
def test_figure_draws_in_both_themes_and_on_a_phone(opened, name, look):
    page = opened(name, 390 if look == "phone" else 1000, color_scheme="dark" if look == "dark" else "light")
    result(page, name)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert (colour(page, name) < 80) == (look == "dark")
    assert min(inked(page, name)) > 1_000
    # Everything has a name, and what has been found is told.
    unnamed = f"""[...document.querySelector('cvae-{name}').shadowRoot.querySelectorAll('canvas, input, button')]
      .filter(e => !(e.getAttribute('aria-label') || e.labels?.length || e.textContent.trim()))
      .filter(e => e.offsetParent).length"""
    assert page.evaluate(unnamed) == 0
    status = page.locator(f"cvae-{name} [role=status]")
    page.wait_for_function(
        f"document.querySelector('cvae-{name}').shadowRoot.querySelector('[role=status]').textContent.length > 30"
    )
    assert status.get_attribute("aria-live") == "polite"
    assert page.complaints == []


def test_figure_follows_the_theme_of_the_page(opened):
    page = opened("conditional")
    assert colour(page, "conditional") > 200
    page.add_style_tag(content="html[data-theme=dark] { --pst-color-background: rgb(20, 24, 30); }")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function("document.querySelector('cvae-conditional').ink.dark")
    assert colour(page, "conditional") < 80


@pytest.mark.slow
def test_line_moves_by_key_mouse_and_touch(opened):
    page = opened("conditional", has_touch=True)
    assert result(page, "conditional")["x0"] == 1.0
    x0 = "document.querySelector('cvae-conditional').x0"
    page.locator("cvae-conditional #x0").focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(x0) == pytest.approx(0.95)
    page.wait_for_function("document.querySelector('cvae-conditional').result.x0 == 0.95", timeout=120_000)
    box = page.locator("cvae-conditional canvas.data").bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 120, steps=4)
    assert -2 <= page.evaluate(x0) < -0.5
    page.wait_for_function("document.querySelector('cvae-conditional').seen?.length > 100", timeout=60_000)
    page.mouse.up()
    page.wait_for_function("document.querySelector('cvae-conditional').result.x0 < -0.5", timeout=120_000)
    page.touchscreen.tap(box["x"] + 0.85 * box["width"], box["y"] + 100)
    assert page.evaluate(x0) > 1
    assert page.complaints == []


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_draws_and_steps(opened, method):
    page = opened("conditional", reduced_motion="reduce")
    page.locator(f"cvae-conditional input[value={method}]").check()
    page.wait_for_function(f"document.querySelector('cvae-conditional').result?.method == '{method}'", timeout=240_000)
    found = page.evaluate("document.querySelector('cvae-conditional').result")
    assert found["draws"] == 2_000 and abs(found["upper"] - 0.872) < 0.2
    assert (found["w1"] > 18 * found["floor"]) == (method == "one_pass")
    page.get_by_role("button", name="Step by step").click()
    for _ in range(3):
        page.get_by_role("button", name="Step", exact=True).click()
    # With reduced motion a step is shown as it ends.
    assert page.evaluate("document.querySelector('cvae-conditional').eased") == 1
    told = page.locator("cvae-conditional [role=status]").inner_text()
    assert re.search("Step 3|Draw 3|Moved", told)
    page.wait_for_function("document.querySelector('cvae-conditional').draws.length > 0")
    assert len(inked(page, "conditional")) == 4 and min(inked(page, "conditional")) > 1_000
    assert page.complaints == []


@pytest.mark.slow
def test_chain_plays_until_paused(opened):
    page = opened("conditional")
    page.locator("cvae-conditional input[value=metropolis_within_gibbs]").check()
    page.get_by_role("button", name="Step by step").click()
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("document.querySelector('cvae-conditional').walk.step > 5", timeout=60_000)
    page.get_by_role("button", name="Pause").click()
    steps = page.evaluate("document.querySelector('cvae-conditional').walk.step")
    page.wait_for_timeout(1_500)
    assert page.evaluate("document.querySelector('cvae-conditional').walk.step") == steps
    assert page.complaints == []


@pytest.mark.slow
def test_weights_collapse_as_times_become_known(opened):
    page = opened("weights")
    slider, worth = page.locator("cvae-weights #known"), {}
    for known in (1, 4, 16):
        slider.fill(str(known))
        page.wait_for_function(f"document.querySelector('cvae-weights').result?.known == {known}", timeout=60_000)
        worth[known] = page.evaluate("document.querySelector('cvae-weights').result.worth")
    assert worth[1] > 200 > 5 * worth[16] and worth[1] > worth[4] > worth[16] >= 1
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('cvae-weights').result.known == 17", timeout=60_000)
    assert page.complaints == []


@pytest.mark.slow
def test_r_hat_sees_only_where_the_chains_are(opened):
    page = opened("rhat")
    blind = result(page, "rhat")
    assert blind["rHat"] < 1.02 and blind["w1"] > 5 * blind["floor"] and blind["upper"] > 0.99
    page.evaluate("document.querySelector('cvae-rhat').result = null")
    page.locator("cvae-rhat #lower").fill("4")
    seeing = result(page, "rhat")
    assert seeing["rHat"] > 1.1
    assert page.complaints == []


@pytest.mark.parametrize("name", FIGURES)
def test_a_picture_stands_in_without_scripts(opened, name):
    page = opened(name, java_script_enabled=False)
    picture = page.get_by_role("img", name=FIGURES[name].alt)
    assert picture.is_visible()
    box = picture.bounding_box()
    assert box["width"] > 300 and box["height"] > 150
