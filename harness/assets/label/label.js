"use strict";
(() => {
  const { page, pairs } = JSON.parse(document.getElementById("data").textContent);
  const by = (id) => document.getElementById(id);
  const CHOICES = ["left", "tie", "right", "skip"];
  const KEYS = { a: "left", 1: "left", t: "tie", 2: "tie", d: "right", 3: "right", s: "skip" };
  const PLACE = "harness-labels-" + page;
  const state = { labels: {}, annotator: "", at: 0 };
  let kept = true;
  let saved = "";

  const label = (i) => state.labels[pairs[i].n];
  const labelled = () => pairs.filter((p) => state.labels[p.n]).length;

  function load() {
    try {
      const old = JSON.parse(localStorage.getItem(PLACE) || "{}");
      const known = new Set(pairs.map((p) => String(p.n)));
      for (const [n, choice] of Object.entries(old.labels || {})) {
        if (known.has(n) && CHOICES.includes(choice)) state.labels[n] = choice;
      }
      if (typeof old.annotator === "string") state.annotator = old.annotator.slice(0, 40);
    } catch { kept = false; }
    const first = pairs.findIndex((p) => !state.labels[p.n]);
    state.at = first < 0 ? pairs.length : first;
  }

  function keep() {
    try { localStorage.setItem(PLACE, JSON.stringify({ labels: state.labels, annotator: state.annotator })); kept = true; }
    catch { kept = false; }
    by("trouble").hidden = kept;
    if (!kept) by("trouble").textContent = "This browser keeps nothing for the page: save the file before you close it.";
  }

  function element(name, text, style) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (style) made.className = style;
    return made;
  }

  const prose = (text) => (text.trim() ? element("p", text, "text") : element("p", "(empty)", "text empty"));

  function show() {
    const over = state.at >= pairs.length;
    by("pair").hidden = over;
    by("done").hidden = !over;
    by("bar").value = labelled();
    by("count").textContent = over ? `${labelled()} of ${pairs.length}` : `pair ${state.at + 1} of ${pairs.length}`;
    by("back").disabled = state.at === 0;
    for (const choice of CHOICES) {
      by(choice).disabled = over;
      by(choice).setAttribute("aria-pressed", String(!over && label(state.at) === choice));
    }
    if (over) return;
    const pair = pairs[state.at];
    const main = by("pair");
    main.replaceChildren();
    pair.turns.forEach((turn, i) => {
      const of = pair.turns.length > 1 ? `, turn ${i + 1} of ${pair.turns.length}` : "";
      const ask = element("div", undefined, "ask");
      ask.append(element("h3", `Prompt${of}`), prose(turn));
      const answers = element("div", undefined, "answers");
      for (const [name, side] of [["A", "left"], ["B", "right"]]) {
        const article = element("article");
        article.append(element("h3", `Answer ${name}${of}`), prose(pair[side][i]));
        answers.append(article);
      }
      main.append(ask, answers);
    });
    window.scrollTo(0, 0);
  }

  function choose(choice) {
    if (state.at >= pairs.length) return;
    state.labels[pairs[state.at].n] = choice;
    keep();
    state.at += 1;
    while (state.at < pairs.length && label(state.at)) state.at += 1;
    show();
  }

  function back() {
    if (state.at > 0) state.at -= 1;
    show();
  }

  const content = () =>
    JSON.stringify({ harness_labels: 1, page, annotator: state.annotator.trim(), labels: state.labels }, null, 1) + "\n";

  function save() {
    const text = content();
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    const who = state.annotator.trim().replace(/[^\p{L}\p{N}_-]+/gu, "-");
    link.download = `labels-${page}${who ? `-${who}` : ""}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    saved = text;
  }

  load();
  by("who").value = state.annotator;
  by("who").addEventListener("input", (event) => { state.annotator = event.target.value; keep(); });
  for (const choice of CHOICES) by(choice).addEventListener("click", () => choose(choice));
  by("back").addEventListener("click", back);
  by("save").addEventListener("click", save);
  by("save-again").addEventListener("click", save);
  by("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (key === "b" || key === "Backspace") { event.preventDefault(); back(); }
    else if (KEYS[key]) { event.preventDefault(); choose(KEYS[key]); }
  });
  window.addEventListener("beforeunload", (event) => {
    if (!kept && labelled() && content() !== saved) event.preventDefault();
  });
  keep();
  show();
})();
