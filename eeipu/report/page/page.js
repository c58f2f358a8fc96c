"use strict";
(() => {
  const pictures = JSON.parse(document.getElementById("pictures").textContent);
  const root = document.documentElement;
  const night = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (night.matches ? "dark" : "light")) === "dark";
  const narrow = () => window.innerWidth < 640;

  const coloured = (layout) => {
    const ink = isDark() ? "#e8eaed" : "#1c2128";
    const line = isDark() ? "rgba(255,255,255,0.14)" : "rgba(0,0,0,0.1)";
    const card = isDark() ? "#1d2229" : "#ffffff";
    const copy = structuredClone(layout);
    copy.font = { ...copy.font, color: ink, size: narrow() ? 11 : 13 };
    copy.paper_bgcolor = copy.plot_bgcolor = "rgba(0,0,0,0)";
    copy.modebar = { bgcolor: "rgba(0,0,0,0)", color: line, activecolor: ink };
    copy.hoverlabel = { ...copy.hoverlabel, bgcolor: card, font: { color: ink } };
    for (const name of Object.keys(copy).filter((each) => /^[xy]axis/.test(each))) {
      copy[name] = { ...copy[name], gridcolor: line, zerolinecolor: line, linecolor: line };
    }
    return copy;
  };
  const config = () => ({
    responsive: true,
    displaylogo: false,
    displayModeBar: narrow() ? false : "hover",
    modeBarButtons: [["toImage", "resetScale2d"]],
  });
  const draw = (place) => {
    const picture = pictures[place.dataset.picture];
    place.style.height = `${picture.height}px`;
    Plotly.react(place, structuredClone(picture.data), coloured(picture.layout), config());
  };
  const drawAll = () => document.querySelectorAll("[data-picture]").forEach(draw);

  // A page that follows its study is loaded again and again; what its reader chose is kept.
  const live = document.body.dataset.version;
  const kept = (name) => (live ? sessionStorage.getItem(name) : null);
  const keep = (name, value) => live && sessionStorage.setItem(name, value);
  if (kept("theme")) root.dataset.theme = kept("theme");

  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    keep("theme", root.dataset.theme);
    drawAll();
  });
  night.addEventListener("change", drawAll);

  const why = document.getElementById("why");
  if (why) {
    const place = document.querySelector("#reason .picture");
    if (kept("why") && pictures[kept("why")]) {
      why.value = place.dataset.picture = kept("why");
    }
    why.addEventListener("change", () => {
      keep("why", why.value);
      place.dataset.picture = why.value;
      draw(place);
    });
  }

  const number = (text) => {
    const value = parseFloat(text.replaceAll(",", ""));
    return Number.isNaN(value) ? null : value;
  };
  const compared = (a, b) => {
    const [x, y] = [number(a), number(b)];
    if (x !== null && y !== null) return x - y;
    if (x === null && y === null) return a.localeCompare(b);
    return x === null ? 1 : -1;
  };
  document.querySelectorAll(".sortable thead th").forEach((head) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const table = head.closest("table");
      const column = head.cellIndex;
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      table.querySelectorAll("th").forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => sign * compared(a.cells[column].textContent, b.cells[column].textContent));
      table.tBodies[0].append(...rows);
    });
  });

  drawAll();

  if (live) {
    const state = document.getElementById("state");
    const said = state.textContent;
    const look = async () => {
      if (document.hidden) return;
      try {
        const answer = await fetch("version", { cache: "no-store" });
        if (!answer.ok) throw new Error(answer.statusText);
        state.textContent = said;
        if ((await answer.text()) !== live) {
          keep("scroll", window.scrollY);
          window.location.reload();
        }
      } catch {
        state.textContent = `${said}; the server does not answer, so this does not change any more`;
      }
    };
    window.setInterval(look, 1000 * Number(document.body.dataset.everyS));
    document.addEventListener("visibilitychange", look);
    if (kept("scroll")) window.scrollTo(0, Number(kept("scroll")));
  }
  root.dataset.ready = "yes";
})();
