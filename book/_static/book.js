// What is wider than its place scrolls sideways: a faded edge says so, and the keyboard reaches it.
(() => {
  const SCROLLS = "article pre, article .picture, article table, article mjx-container[display=true], article mjx-container.wide";

  function mark(e) {
    const hidden = e.scrollWidth - e.clientWidth;
    e.classList.toggle("more", e.clientWidth > 0 && hidden - e.scrollLeft > 2);
    if (hidden > 1 && e.clientWidth > 0) {
      if (e.tabIndex < 0) e.setAttribute("tabindex", "0"), (e.dataset.reached = "");
      if (e.matches(".picture")) e.setAttribute("role", "group"), e.setAttribute("aria-label", "Figure; it scrolls sideways");
    } else if ("reached" in e.dataset) {
      e.removeAttribute("tabindex");
      e.removeAttribute("role");
      e.removeAttribute("aria-label");
      delete e.dataset.reached;
    }
  }

  const sizes = new ResizeObserver(entries => entries.forEach(entry => mark(entry.target)));

  // A formula in a line, wider than the line, gets a place of its own.
  function widen() {
    for (const formula of document.querySelectorAll("article mjx-container:not([display])")) {
      const place = formula.parentElement.closest("p, li, dd, td, th, figcaption, h1, h2, h3, h4");
      const svg = formula.querySelector("svg");
      if (place && svg && !place.closest("table"))
        formula.classList.toggle("wide", svg.getBoundingClientRect().width > place.clientWidth && place.clientWidth > 0);
    }
    for (const e of document.querySelectorAll(SCROLLS)) {
      if (!e.dataset.watched) e.addEventListener("scroll", () => mark(e), { passive: true }), (e.dataset.watched = "");
      sizes.observe(e);
    }
  }

  function start() {
    widen();
    addEventListener("resize", widen);
    document.addEventListener("toggle", widen, true);
    if (window.MathJax?.startup?.promise) window.MathJax.startup.promise.then(widen);
  }
  if (document.readyState === "complete") start();
  else addEventListener("load", start);
})();
