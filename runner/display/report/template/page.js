// Each plot is drawn when it comes near the screen, in the page's own colours, and again when those change.
const plots = JSON.parse(document.getElementById("plots").textContent);
const dark = matchMedia("screen and (prefers-color-scheme: dark)");
const drawn = new Set();
const series = JSON.parse(document.getElementById("colours").textContent);

function config() {
  const colours = getComputedStyle(document.documentElement);
  const [ink, quiet, line] = ["--ink", "--quiet", "--line"].map((name) => colours.getPropertyValue(name).trim());
  const font = "system-ui, sans-serif";
  const text = { labelColor: ink, titleColor: quiet, labelFont: font, titleFont: font, labelFontSize: 12, titleFontWeight: "normal" };
  return {
    background: "transparent",
    axis: { ...text, gridColor: line, domainColor: line, tickColor: line, titleFontSize: 12, titlePadding: 8 },
    legend: { ...text, rowPadding: 3 },
    title: { color: quiet, font },
    text: { color: ink, font },
    view: { stroke: null },
    range: { category: dark.matches ? series.dark : series.light },
  };
}

function draw(place) {
  drawn.add(place);
  place.classList.toggle("on-dark", dark.matches);
  const actions = { export: true, source: false, compiled: false, editor: false };
  window.vegaEmbed(place, plots[place.dataset.plot], { config: config(), renderer: "svg", actions });
}

const places = [...document.querySelectorAll("[data-plot]")];
const observer = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => {
    observer.unobserve(target);
    if (!drawn.has(target)) draw(target);
  }),
  { rootMargin: "800px" },
);
places.forEach((place) => observer.observe(place));

// Paper is light, but a plot takes too long to draw for a printer that does not wait: it stays as the screen shows it.
let printing = false;
addEventListener("beforeprint", () => (printing = true));
addEventListener("afterprint", () => (printing = false));
dark.addEventListener("change", () => printing || drawn.forEach(draw));

// The printed page has every plot: those far below are drawn while the browser has nothing else to do.
function drawNext(deadline) {
  const waiting = places.filter((place) => !drawn.has(place));
  while (waiting.length && deadline.timeRemaining() > 10) draw(waiting.shift());
  if (waiting.length) idle(drawNext);
}
const idle = window.requestIdleCallback ?? ((callback) => setTimeout(() => callback({ timeRemaining: () => 20 }), 200));
addEventListener("load", () => idle(drawNext));
