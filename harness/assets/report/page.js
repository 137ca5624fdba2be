"use strict";
const byId = (id) => document.getElementById(id);
const element = (tag, className, text) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

// Dark or light: the system's, until it is chosen here.
byId("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

// Tables: sorting by a column, and a filter of rows.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") !== "descending";
    for (const other of heads) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => {
      const cell = row.cells[place];
      return cell.dataset.value === undefined ? cell.textContent.trim().toLowerCase() : Number(cell.dataset.value);
    };
    const rows = [...table.tBodies[0].rows].map((row) => [value(row), row]);
    rows.sort(([a, one], [b, other]) => {
      const none = (row) => row.cells[place].classList.contains("none");
      if (none(one) !== none(other)) return none(one) ? 1 : -1; // what has no figure stands last, either way
      const order = typeof a === "number" && typeof b === "number" ? a - b : String(a) < String(b) ? -1 : 1;
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }));
}
for (const filter of document.querySelectorAll("input.filter")) {
  filter.addEventListener("input", () => {
    const wanted = filter.value.trim().toLowerCase();
    for (const row of document.querySelectorAll("table.sortable tbody tr")) {
      row.hidden = !row.dataset.row.toLowerCase().includes(wanted);
    }
  });
}

// A table that is wider than its place shows where it goes on, and what is under its first column.
for (const cut of document.querySelectorAll(".cut")) {
  const scroll = cut.firstElementChild;
  const look = () => {
    cut.classList.toggle("more", scroll.scrollLeft + scroll.clientWidth < scroll.scrollWidth - 1);
    cut.classList.toggle("moved", scroll.scrollLeft > 0);
  };
  scroll.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(look).observe(scroll);
}

// Examples.
const board = JSON.parse(byId("board-data").textContent);
const packs = new Map();
const unpack = (name) => {
  if (!packs.has(name)) {
    const bytes = Uint8Array.from(atob(byId(name).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    packs.set(name, new Response(stream).json());
  }
  return packs.get(name);
};
const mean = (values) => {
  const known = values.filter((v) => typeof v === "number");
  return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
};

// Words that differ. Texts that share enough words in order are aligned; of others, words are marked that the other text
// does not have at all.
const wordsOf = (text) => [...text.matchAll(/[\p{L}\p{N}]+|[^\s\p{L}\p{N}]/gu)];
const SHARED = 0.3, MOST_CELLS = 4e6;
const aligned = (a, b) => { // the indices of the words that both have, in order; null: too many to align
  let start = 0, end = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  const rows = a.length - start - end, columns = b.length - start - end, wide = columns + 1;
  if (rows * columns > MOST_CELLS) return null;
  const lengths = new Uint16Array((rows + 1) * wide); // of the longest common subsequence from here on
  for (let i = rows - 1; i >= 0; i -= 1) {
    for (let j = columns - 1; j >= 0; j -= 1) {
      lengths[i * wide + j] = a[start + i] === b[start + j] ? lengths[(i + 1) * wide + j + 1] + 1
        : Math.max(lengths[(i + 1) * wide + j], lengths[i * wide + j + 1]);
    }
  }
  const pairs = [];
  for (let k = 0; k < start; k += 1) pairs.push([k, k]);
  let run = [];
  const keep = () => { if (run.length > 1) pairs.push(...run); run = []; }; // a single word in between is a chance
  for (let i = 0, j = 0; i < rows && j < columns;) {
    if (a[start + i] === b[start + j]) { run.push([start + i, start + j]); i += 1; j += 1; continue; }
    keep();
    if (lengths[(i + 1) * wide + j] >= lengths[i * wide + j + 1]) i += 1; else j += 1;
  }
  keep();
  for (let k = end; k > 0; k -= 1) pairs.push([a.length - k, b.length - k]);
  return pairs;
};
const differing = (first, second, wanted) => { // two paragraphs
  if (!wanted || !first || !second) return [element("p", "said", first), element("p", "said", second)];
  const found = [wordsOf(first), wordsOf(second)];
  const plain = found.map((words) => words.map((word) => word[0]));
  const pairs = aligned(...plain);
  let same;
  if (pairs && 2 * pairs.length >= SHARED * (plain[0].length + plain[1].length)) {
    same = [0, 1].map((side) => new Set(pairs.map((pair) => pair[side])));
  } else {
    const lower = plain.map((words) => words.map((word) => word.toLowerCase()));
    const sets = lower.map((words) => new Set(words));
    same = [0, 1].map((side) => new Set([...lower[side].keys()].filter((i) => sets[1 - side].has(lower[side][i]))));
  }
  return [first, second].map((text, side) => {
    const said = element("p", "said");
    let done = 0, from = null, to = 0;
    const flush = () => {
      if (from === null) return;
      said.append(text.slice(done, from), element("mark", "", text.slice(from, to)));
      done = to;
      from = null;
    };
    found[side].forEach((word, i) => {
      if (same[side].has(i)) { flush(); return; }
      if (from === null) from = word.index;
      to = word.index + word[0].length;
    });
    flush();
    said.append(text.slice(done));
    return said;
  });
};

if (board.prompts.length) {
  const [rowA, rowB, show, category, order, search, marks] =
    ["row-a", "row-b", "show", "category", "order", "search", "marks"].map(byId);
  const list = byId("list"), shown = byId("shown");
  let chosen = null, order_of = [];
  const option = (value, text) => { const made = element("option", "", text ?? value); made.value = value; return made; };
  board.rows.forEach((name, i) => { rowA.append(option(String(i), name)); rowB.append(option(String(i), name)); });
  [rowA.value, rowB.value] = board.compared.map(String); // the rows that the answer compares
  category.append(option("", "all"), ...[...new Set(board.prompts.map((p) => p[1]))].map((c) => option(c)));

  const numbers = (select, id) => board.numbers[board.rows[Number(select.value)]]?.[id];
  const score = (select, id) => { const found = numbers(select, id); return found ? mean(found[0]) : null; };
  const flags = (select, id) => board.flags[board.rows[Number(select.value)]]?.[id] ?? [];

  const compares = (id) => id.startsWith("alpaca_eval");
  const figure = (id, v) => (compares(id) ? `${Math.round(100 * (v - 1))} %` : String(Math.round(v * 100) / 100));
  // Benchmarks have scales of their own: a difference counts by its share of the largest possible one.
  const set = (id) => id.split(" ", 1)[0];
  const span = (id) => board.spans[set(id)] ?? 1;
  const clearly = (id, a, b) => a - b > 0.02 * span(id); // what the list and the answers call better

  const refresh = () => {
    const words = search.value.trim().toLowerCase();
    const kept = board.prompts.filter(([id, kind, title]) => {
      if (category.value && kind !== category.value) return false;
      if (words && !title.toLowerCase().includes(words)) return false;
      if (!numbers(rowA, id) && !numbers(rowB, id)) return false;
      const a = score(rowA, id), b = score(rowB, id);
      if (show.value === "missing") return a === null || b === null;
      if (show.value === "flagged") return flags(rowA, id).length + flags(rowB, id).length > 0;
      if (show.value === "all") return true;
      if (a === null || b === null) return false;
      const won = [clearly(id, a, b), clearly(id, b, a)];
      return show.value === "differ" ? won[0] || won[1] : won[show.value === "a" ? 0 : 1];
    });
    const gap = ([id]) => {
      const [a, b] = [score(rowA, id), score(rowB, id)];
      return a === null || b === null ? -1 : Math.abs(a - b) / span(id);
    };
    const later = ([id]) => (set(id) === board.first ? 0 : 1); // of equal ones, the primary benchmark's
    const length = ([id]) => (numbers(rowA, id)?.[1] ?? 0) + (numbers(rowB, id)?.[1] ?? 0);
    if (order.value === "gap") {
      const keyed = kept.map((prompt) => [gap(prompt), later(prompt), prompt]);
      keyed.sort((x, y) => y[0] - x[0] || x[1] - y[1]);
      kept.splice(0, kept.length, ...keyed.map(([, , prompt]) => prompt));
    }
    if (order.value === "long") kept.sort((x, y) => length(y) - length(x));
    order_of = kept.map(([id]) => id);
    byId("count").textContent = `${kept.length.toLocaleString("en")} of ${board.prompts.length.toLocaleString("en")} prompts`;
    list.replaceChildren(...kept.map(([id, kind, title]) => {
      const item = element("li", "", title);
      item.dataset.id = id;
      item.setAttribute("role", "option");
      const figures = [score(rowA, id), score(rowB, id)].map((v) => (v === null ? "–" : figure(id, v)));
      item.append(element("small", "", `${kind} · A ${figures[0]} · B ${figures[1]}`));
      return item;
    }));
    open(order_of.includes(chosen) ? chosen : order_of[0] ?? null);
  };

  const verdict = (id, value, why, other) => {
    const line = element("p", "verdict");
    if (typeof value !== "number") {
      line.textContent = why ? `not scored: ${why}` : "not judged";
      return line;
    }
    line.append(compares(id)
      ? `won over the reference with probability ${(value - 1).toFixed(3)}`
      : `rated ${Math.round(value * 100) / 100} of 10`);
    if (typeof other === "number" && clearly(id, value, other)) line.append(element("span", "won", "  better here"));
    return line;
  };

  const answer = (select, label, id, turn, texts, value, other, said) => {
    const box = element("div", "answer");
    box.append(element("h4", "", `${label}: ${board.rows[Number(select.value)]}`));
    if (!texts) { box.append(element("p", "verdict", "no answer")); return box; }
    box.append(verdict(id, value, texts[2][turn], other));
    const doubts = flags(select, id);
    if (doubts.length) box.append(element("p", "flag", `flagged: ${doubts.join(", ")}`));
    box.append(said);
    if (texts[1][turn]) {
      const words = element("details");
      words.append(element("summary", "", "The judge's words"), element("p", "said", texts[1][turn]));
      box.append(words);
    }
    return box;
  };

  let asked = 0;
  const open = async (id) => {
    chosen = id;
    const mine = ++asked;
    for (const item of list.children) {
      const is = item.dataset.id === id;
      item.setAttribute("aria-selected", String(is));
      if (is) list.scrollTop = Math.max(0, item.offsetTop - list.offsetTop - list.clientHeight / 3);
    }
    if (id === null) { shown.replaceChildren(element("p", "note", "No prompt fits these choices.")); return; }
    const [prompts, a, b] = await Promise.all(
      [unpack("pack-prompts"), unpack(`pack-${rowA.value}`), unpack(`pack-${rowB.value}`)]);
    if (mine !== asked) return; // another prompt was picked meanwhile
    const [turns, reference] = prompts[id];
    const parts = turns.map((text, turn) => {
      const part = element("div", "turn");
      const said = element("div", "prompt");
      said.append(element("strong", "", turns.length > 1 ? `Turn ${turn + 1}` : "Prompt"), element("p", "said", text));
      const two = element("div", "two");
      const values = [rowA, rowB].map((select) => numbers(select, id)?.[0][turn]);
      const [saidA, saidB] = differing(a[id]?.[0][turn] ?? "", b[id]?.[0][turn] ?? "", marks.checked);
      two.append(answer(rowA, "A", id, turn, a[id], values[0], values[1], saidA),
        answer(rowB, "B", id, turn, b[id], values[1], values[0], saidB));
      part.append(said, two);
      return part;
    });
    if (reference) {
      const box = element("details");
      box.append(element("summary", "", `The reference: ${reference[0]}`), element("p", "said", reference[1]));
      parts.push(box);
    }
    shown.replaceChildren(...parts);
  };

  const step = (by) => {
    const place = order_of.indexOf(chosen) + by;
    if (place >= 0 && place < order_of.length) open(order_of[place]);
  };
  list.addEventListener("click", (event) => { const item = event.target.closest("li"); if (item) open(item.dataset.id); });
  list.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") { event.preventDefault(); step(event.key === "ArrowDown" ? 1 : -1); }
  });
  const swap = () => { [rowA.value, rowB.value] = [rowB.value, rowA.value]; refresh(); };
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const action = { j: () => step(1), k: () => step(-1), s: swap, "/": () => search.focus() }[event.key];
    if (action) { event.preventDefault(); action(); }
  });
  byId("pick").addEventListener("submit", (event) => event.preventDefault());
  for (const select of [rowA, rowB]) select.addEventListener("change", () => { chosen = null; refresh(); });
  for (const control of [show, category, order]) control.addEventListener("change", refresh);
  search.addEventListener("input", refresh);
  marks.addEventListener("change", () => open(chosen));
  refresh();
}
