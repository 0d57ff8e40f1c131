// Each plot is drawn when it comes near the screen, in the page's own colours, and again when those change.
const plots = JSON.parse(document.getElementById("plots").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const drawn = new Set();
const deep = ["#2f6db3", "#d9730d", "#2e8b57", "#8e5bb5", "#c23b4b", "#2b8f9e", "#8a6d3b", "#6b7785"];
const bright = ["#7db4f0", "#ffab5c", "#6fd39b", "#c79bea", "#ff8a94", "#6fd0de", "#d8b878", "#aeb9c5"];

function config() {
  const colours = getComputedStyle(document.documentElement);
  const [ink, quiet, line] = ["--ink", "--quiet", "--line"].map((name) => colours.getPropertyValue(name).trim());
  const font = "system-ui, sans-serif";
  const text = { labelColor: ink, titleColor: quiet, labelFont: font, titleFont: font, labelFontSize: 12, titleFontWeight: "normal" };
  return {
    background: "transparent",
    axis: { ...text, gridColor: line, domainColor: line, tickColor: line, titleFontSize: 12 },
    legend: { ...text, rowPadding: 3 },
    title: { color: quiet, font },
    text: { color: ink, font },
    view: { stroke: null },
    range: { category: dark.matches ? bright : deep },
  };
}

function draw(place) {
  drawn.add(place);
  const actions = { export: true, source: false, compiled: false, editor: false };
  window.vegaEmbed(place, plots[place.dataset.plot], { config: config(), renderer: "svg", actions });
}

const places = [...document.querySelectorAll("[data-plot]")];
const observer = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => {
    observer.unobserve(target);
    draw(target);
  }),
  { rootMargin: "800px" },
);
places.forEach((place) => observer.observe(place));
dark.addEventListener("change", () => drawn.forEach(draw));
addEventListener("beforeprint", () => places.filter((place) => !drawn.has(place)).forEach(draw));
