// The gallery: a reviewer marks images by keyboard or mouse and downloads marks.json.
// Without this script the page reads the same. It sends nothing anywhere.
"use strict";
(() => {
  const { keys, ...about } = JSON.parse(document.getElementById("marked").textContent);
  const items = [...document.querySelectorAll(".images > li")];
  if (!items.length) return;
  const WORDS = { keep: "✓ keep", drop: "✕ drop", wrong_label: "⚑ wrong label" };
  const KEYS = { k: "keep", d: "drop", w: "wrong_label", u: "" };
  const STORE = `datagen marks ${about.dataset} ${about.version} ${about.digest}`;
  const element = (id) => document.getElementById(id);
  const isMark = (mark) => Object.hasOwn(WORDS, mark);

  // Sample key => mark. Marks of images that this page does not show are kept too.
  const marks = new Map();
  let current = 0;
  let isStored = true;
  let isSaved = true;

  // marks.json.
  const asJson = () =>
    JSON.stringify({ format: 1, ...about, marks: Object.fromEntries(marks) }, null, 1);

  // Takes the marks of such a text into ours, or throws an Error that says why not.
  function take(text) {
    let file;
    try {
      file = JSON.parse(text);
    } catch {
      throw new Error("this file is not JSON");
    }
    if (file?.format !== 1 || typeof file.marks !== "object" || file.marks === null) {
      throw new Error("this is not a marks.json of format 1");
    }
    if (file.digest !== about.digest) {
      throw new Error(`these marks are of ${file.dataset}, version ${file.version}: another data set`);
    }
    const given = Object.entries(file.marks);
    const wrong = given.find(([, mark]) => !isMark(mark));
    if (wrong) throw new Error(`${wrong[0]}: the mark must be keep, drop or wrong_label`);
    for (const [key, mark] of given) marks.set(key, mark);
  }

  // A page from a file, or in private browsing, may have no storage.
  function restore() {
    try {
      const text = localStorage.getItem(STORE);
      if (text) take(text);
    } catch {
      isStored = false;
    }
  }

  function store() {
    try {
      localStorage.setItem(STORE, asJson());
      isStored = true;
    } catch {
      isStored = false;
    }
  }

  function show(i) {
    const mark = marks.get(keys[i]);
    const image = items[i].querySelector("img");
    if (mark) {
      items[i].dataset.mark = mark;
      items[i].dataset.says = WORDS[mark];
    } else {
      delete items[i].dataset.mark;
      delete items[i].dataset.says;
    }
    items[i].setAttribute("aria-label", `${image.alt}; ${mark ? WORDS[mark].slice(2) : "no mark"}`);
  }

  function showTally() {
    const tally = { keep: 0, drop: 0, wrong_label: 0 };
    for (const mark of marks.values()) tally[mark] += 1;
    const open = keys.filter((key) => !marks.has(key)).length;
    const kept = isStored ? "" : " · not kept by this browser: download before closing";
    element("tally").textContent =
      `keep ${tally.keep} · drop ${tally.drop} · wrong label ${tally.wrong_label} · ` +
      `no mark ${open}${kept}`;
  }

  function showCurrent() {
    element("current").textContent = `${keys[current]} — ${items[current].getAttribute("aria-label")}`;
  }

  function showAll() {
    items.forEach((_, i) => show(i));
    showTally();
  }

  function changed() {
    isSaved = false;
    store();
    showTally();
  }

  function mark(i, value) {
    if (value) marks.set(keys[i], value);
    else marks.delete(keys[i]);
    show(i);
    changed();
    showCurrent();
  }

  function select(i, { focus = true } = {}) {
    items[current].tabIndex = -1;
    items[current].setAttribute("aria-selected", "false");
    current = Math.max(0, Math.min(i, items.length - 1));
    const item = items[current];
    item.tabIndex = 0;
    item.setAttribute("aria-selected", "true");
    const fold = item.closest("details");
    if (fold) fold.open = true;
    if (focus) item.focus();
    showCurrent();
  }

  // The image above or below: the nearest one in the next row of what is visible.
  function vertical(direction) {
    const here = items[current].getBoundingClientRect();
    let best = null;
    for (let i = current + direction; i >= 0 && i < items.length; i += direction) {
      const there = items[i].getBoundingClientRect();
      if (!there.width || Math.abs(there.top - here.top) < 4) continue;
      if (best && Math.abs(there.top - best.top) > 4) break;
      const distance = Math.abs(there.left - here.left);
      if (!best || distance < best.distance) best = { i, distance, top: there.top };
    }
    return best ? best.i : current;
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = {
      ArrowRight: () => current + 1,
      ArrowLeft: () => current - 1,
      ArrowDown: () => vertical(1),
      ArrowUp: () => vertical(-1),
      Home: () => 0,
      End: () => items.length - 1,
    };
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (Object.hasOwn(moves, key)) select(moves[key]());
    else if (Object.hasOwn(KEYS, key)) mark(current, KEYS[key]);
    else if (key === "?") element("keys").showModal();
    else return;
    event.preventDefault();
  }

  function onClick(event) {
    const i = items.indexOf(event.currentTarget);
    const brush = document.querySelector("input[name=brush]:checked").value;
    select(i);
    if (brush) mark(i, marks.get(keys[i]) === brush ? "" : brush);
  }

  function download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([asJson()], { type: "application/json" }));
    link.download = "marks.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    isSaved = true;
  }

  async function load(input) {
    const problem = element("problem");
    problem.hidden = true;
    try {
      take(await input.files[0].text());
      changed();
      showAll();
    } catch (error) {
      problem.textContent = `${input.files[0].name}: ${error.message}. Nothing was loaded.`;
      problem.hidden = false;
    }
    input.value = "";
  }

  function clear() {
    if (!marks.size || !confirm(`Clear all ${marks.size} marks?`)) return;
    marks.clear();
    changed();
    showAll();
  }

  for (const list of document.querySelectorAll(".images")) {
    list.setAttribute("role", "listbox");
    list.classList.add("marking");
  }
  for (const item of items) {
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", "false");
    item.tabIndex = -1;
    item.addEventListener("click", onClick);
    item.addEventListener("focus", () => {
      if (items[current] !== item) select(items.indexOf(item), { focus: false });
    });
    item.addEventListener("keydown", onKey);
  }
  element("save-marks").addEventListener("click", download);
  element("load-marks").addEventListener("click", () => element("marks-file").click());
  element("marks-file").addEventListener("change", (event) => load(event.target));
  element("clear-marks").addEventListener("click", clear);
  element("show-keys").addEventListener("click", () => element("keys").showModal());
  element("hide-keys").addEventListener("click", () => element("keys").close());
  window.addEventListener("beforeunload", (event) => {
    if (!isStored && !isSaved) event.preventDefault();
  });
  restore();
  showAll();
  select(0, { focus: false });
  element("review").hidden = false;
})();
