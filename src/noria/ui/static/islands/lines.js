// Draws the charts of the page's JSON twin: lines with intervals, and marks for what happened.
const LINES = ["line-1", "line-2", "line-3", "line-4", "line-5", "line-6"];
const drawn = new Map();

const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);
const ink = (name) => {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
};
const faded = (colour, share) => colour.replace(/^rgba?\(([^)]+)\)$/, (_, parts) => {
  const [r, g, b] = parts.split(/[ ,/]+/);
  return `rgba(${r}, ${g}, ${b}, ${share})`;
});

const figure = (value) => {
  if (value == null) return "–";
  const size = Math.abs(value);
  return value.toLocaleString("en", size >= 1000 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 3 });
};

// Dates on the axis: months when they are far apart, days, or hours; the year where it changes.
function dates(plot, ticks) {
  const step = ticks.length > 1 ? ticks[1] - ticks[0] : 86400;
  const clock = { hour: "2-digit", minute: "2-digit", ...(step < 60 ? { second: "2-digit" } : {}) };
  const form = step >= 27 * 86400 ? { month: "short" } : step >= 86400 ? { day: "numeric", month: "short" } : clock;
  let year = 0;
  return ticks.map((tick) => {
    const date = new Date(tick * 1000);
    const words = date.toLocaleString("en-GB", { ...form, timeZone: "UTC" });
    const changed = step >= 86400 && date.getUTCFullYear() !== year;
    year = date.getUTCFullYear();
    return changed ? `${words}\n${year}` : words;
  });
}

function columns(chart) {
  const data = [chart.x];
  const series = [{ label: chart.x_kind === "time" ? (chart.markers.length ? "window to" : "time") : chart.x_kind }];
  const bands = [];
  chart.series.forEach((one, i) => {
    const colour = ink(one.quiet ? "muted" : LINES[(one.tone ?? i) % LINES.length]);
    data.push(one.values);
    series.push({
      label: one.label, stroke: colour, width: one.quiet ? 1.5 : 2.25, dash: one.dash ? [6, 5] : undefined,
      spanGaps: true, points: { show: !one.quiet && chart.x.length < 80, size: 5, fill: colour },
      value: (_, value) => figure(value),
    });
    if (!one.low || !one.high) return;
    const at = data.length;
    data.push(one.high, one.low);
    const bare = { stroke: "transparent", width: 0, points: { show: false }, spanGaps: true, value: () => "" };
    series.push({ ...bare, label: `${one.label} high`, band: true }, { ...bare, label: `${one.label} low`, band: true });
    bands.push({ series: [at, at + 1], fill: faded(colour, 0.16) });
  });
  return { data, series, bands };
}

// Marks: a line through the plot, and a pin on its upper edge that is a real element with a tooltip.
function marks(chart) {
  const tone = { alarm: "bad", warning: "warn", promotion: "good", rollback: "warn" };
  return {
    hooks: {
      draw: (plot) => {
        const { ctx, bbox } = plot;
        ctx.save();
        ctx.lineWidth = devicePixelRatio;
        for (const mark of chart.markers) {
          const x = plot.valToPos(mark.x, "x", true);
          if (x < bbox.left || x > bbox.left + bbox.width) continue;
          ctx.strokeStyle = ink(tone[mark.kind] ?? "muted");
          ctx.setLineDash(mark.kind === "promotion" ? [] : [4 * devicePixelRatio, 4 * devicePixelRatio]);
          ctx.beginPath();
          ctx.moveTo(x, bbox.top);
          ctx.lineTo(x, bbox.top + bbox.height);
          ctx.stroke();
        }
        ctx.restore();
        pins(plot, chart);
      },
    },
  };
}

function pins(plot, chart) {
  plot.over.querySelectorAll(".pin").forEach((one) => one.remove());
  const width = plot.over.clientWidth;
  let last = { promotion: -99, other: -99 };
  for (const mark of chart.markers) {
    const x = plot.valToPos(mark.x, "x");
    if (x < 0 || x > width) continue;
    const lane = mark.kind === "promotion" ? "promotion" : "other";
    const pin = document.createElement("span");
    pin.className = `pin ${mark.kind}${x > width - 220 ? " leftward" : ""}`;
    pin.style.left = `${x}px`;
    pin.tabIndex = 0;
    pin.setAttribute("role", "img");
    pin.setAttribute("aria-label", mark.text);
    pin.dataset.text = mark.text;
    pin.textContent = lane === "promotion" && x - last[lane] > 34 ? mark.label : "";
    last[lane] = x;
    plot.over.append(pin);
  }
}

function draw(holder, chart) {
  const { data, series, bands } = columns(chart);
  const axis = { stroke: ink("muted"), grid: { stroke: ink("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  const time = chart.x_kind === "time";
  const options = {
    width: Math.max(holder.clientWidth, 200), height: holder.clientWidth < 500 ? 230 : 290, series, bands,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    scales: { x: { time }, y: chart.log ? { distr: 3 } : {} },
    axes: [{ ...axis, space: 70, size: time ? 46 : 32, ...(time ? { values: dates } : {}) }, { ...axis, size: 52, values: (_, ticks) => ticks.map((tick) => (tick == null ? "" : figure(tick))) }],
    legend: { live: true }, cursor: { y: false }, padding: [26, 14, 0, 0],
    plugins: chart.markers.length ? [marks(chart)] : [],
  };
  const brief = time && chart.x.at(-1) - chart.x[0] < 5 * 86400;
  if (time) options.series[0].value = (_, x) => (x == null ? "–" : new Date(x * 1000).toISOString().slice(0, brief ? 19 : 10).replace("T", " "));
  drawn.get(holder)?.destroy();
  holder.replaceChildren();
  drawn.set(holder, new uPlot(options, data, holder));
  holder.querySelectorAll(".u-legend .u-series").forEach((row, i) => {
    row.classList.toggle("u-hidden", / (high|low)$/.test(series[i]?.label ?? ""));
  });
}

async function all(event) {
  const holders = [...document.querySelectorAll("[data-island=lines]")];
  if (holders.length === 0) return;
  const twin = event?.detail ?? (await ask());
  if (!twin) return;
  for (const one of holders) {
    const chart = twin.charts[one.dataset.chart];
    if (chart) draw(one.querySelector(".plot"), chart);
  }
}

async function ask() {
  const answer = await fetch(`${location.pathname}.json${location.search}`, { headers: { accept: "application/json" } });
  return answer.ok ? answer.json() : null;
}

let resizing = 0;
new ResizeObserver(() => {
  clearTimeout(resizing);
  resizing = setTimeout(() => {
    for (const [holder, plot] of drawn) {
      const width = Math.max(holder.clientWidth, 200);
      if (width !== plot.width) plot.setSize({ width, height: plot.height });
    }
  }, 80);
}).observe(document.querySelector("main"));
document.addEventListener("noria:theme", all);
document.addEventListener("noria:fresh", all);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
await all();
