"use strict";
// The page asks one of its own addresses for everything, and keeps nothing once it is closed.

const find = (id) => document.getElementById(id);
const photos = {}; // of the wells a, b and query: files
const latest = {}; // of each kind of request: what aborts the one before
let about = {};
let frames = {}; // pictures between a and b, by what changes
let pair = null; // the last answer about a and b

// The answer; null where there is none, which is told; undefined where a newer request of its kind has taken over.
async function ask(kind, path, fields) {
  latest[kind]?.abort();
  const stop = (latest[kind] = new AbortController());
  const options = { signal: stop.signal };
  if (fields) {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.append(name, value);
    Object.assign(options, { method: "POST", body: form });
  }
  let reply, answer;
  try {
    reply = await fetch(path, options);
    answer = await reply.json();
  } catch (error) {
    if (stop.signal.aborted) return undefined;
    tell(reply ? "The answer cannot be read." : "No answer: has dgnet stopped, or was the photo too large?");
    return null;
  }
  if (stop.signal.aborted) return undefined;
  if (!reply.ok) {
    tell(answer.error);
    return null;
  }
  return answer;
}

function tell(trouble) {
  find("trouble").textContent = trouble;
  find("trouble").hidden = !trouble;
  if (trouble) find("trouble").scrollIntoView({ block: "nearest" });
}

function show(image, source) {
  image.hidden = !source;
  if (source) image.src = source;
  else image.removeAttribute("src");
}

const well = (name) => document.querySelector(`[data-well="${name}"]`);
const inWell = (name) => well(name).querySelector("img");

function fill(name, file) {
  // The server refuses it, too, but closes the line while the browser is still sending.
  if (file.size > about.megabytes * 1e6) return tell(`${file.name}: more than ${about.megabytes} MB; save it smaller`);
  photos[name] = file;
  const image = inWell(name);
  if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  show(image, URL.createObjectURL(file));
  image.alt = `Photo ${name === "query" ? "to look for" : name.toUpperCase()}: ${file.name}`;
  well(name).classList.add("full");
  tell("");
  if (name === "query") {
    rest = () => {};
    find("why-legend").hidden = true;
    latest.why?.abort();
    return search();
  }
  if (photos.a && photos.b) compare();
}

// Two photos

async function compare() {
  pair = null;
  frames = {};
  latest.between?.abort();
  const waiting = [...document.querySelectorAll(".made .place"), find("likeness")];
  waiting.forEach((part) => part.classList.add("busy"));
  const answer = await ask("pair", "/api/pair", { a: photos.a, b: photos.b });
  if (answer === undefined) return;
  waiting.forEach((part) => part.classList.remove("busy"));
  if (answer === null) return forget(); // nothing old may stand beside new photos
  pair = answer;
  if (answer.swaps) answer.swaps.forEach((picture, at) => show(find(at ? "swap-b" : "swap-a"), picture));
  find("likeness").hidden = false;
  find("score").replaceChildren("Likeness ", bold(answer.score.toFixed(3)), ...decision(answer.same, "; the same person: "));
  paintPair();
  find("status").textContent = "The swaps are there.";
  if (about.generates) interpolate();
}

function forget() {
  for (const image of document.querySelectorAll(".made img, #frame")) show(image, null);
  find("frame").parentNode.classList.remove("busy");
  find("likeness").hidden = true;
  find("step").disabled = true;
}

function paintPair() {
  const painted = find("shares").checked;
  find("legend").hidden = !painted;
  if (pair) ["a", "b"].forEach((name, at) => show(inWell(name), (painted ? pair.shares : pair.photos)[at]));
}

function bold(text) {
  const part = document.createElement("b");
  part.textContent = text;
  return part;
}

function decision(same, before) {
  if (!same) return before.startsWith(";") && !about.threshold ? ["; no decision, since the model has no threshold"] : [];
  const part = document.createElement("span");
  part.className = same;
  part.textContent = { yes: "✓ yes", no: "✕ no", unsure: "? unsure" }[same];
  return [before, part];
}

// In between

async function interpolate() {
  const of = document.querySelector('[name="of"]:checked').value;
  if (!frames[of]) {
    const place = find("frame").parentNode;
    place.classList.add("busy");
    const answer = await ask("between", "/api/interpolation", { a: photos.a, b: photos.b, of });
    if (answer === undefined) return;
    place.classList.remove("busy");
    if (answer === null) return;
    frames[of] = answer.pictures;
  }
  find("step").max = frames[of].length - 1;
  find("step").disabled = false;
  slide();
}

function slide() {
  const shown = frames[document.querySelector('[name="of"]:checked').value];
  const step = Number(find("step").value);
  const percent = `${Math.round((100 * step) / Number(find("step").max))} %`;
  find("percent").textContent = percent;
  find("step").setAttribute("aria-valuetext", `${percent} of the way from A to B`);
  if (shown) show(find("frame"), shown[step]);
}

// Search

async function search() {
  find("matches").classList.add("busy");
  const answer = await ask("search", "/api/search", { query: photos.query, top: "12" });
  if (answer === undefined) return;
  find("matches").classList.remove("busy");
  find("matches").replaceChildren(...(answer?.matches ?? []).map(card));
  rest = () => {};
  if (answer === null) return;
  find("status").textContent = `${answer.matches.length} matches of ${answer.of} photos.`;
}

function card(match) {
  const item = find("match").content.cloneNode(true).firstElementChild;
  const image = item.querySelector("img");
  show(image, match.picture);
  image.alt = `Match ${match.place}: ${match.name}`;
  item.querySelector(".said b").textContent = `${match.place}.`;
  item.querySelector(".said span").replaceChildren(match.score.toFixed(3), ...decision(match.same, " "));
  item.querySelector(".name").textContent = match.name;
  for (const button of item.querySelectorAll("button")) {
    const what = button.dataset.do;
    const said = what === "why" ? `Why? Match ${match.place}` : `${what.toUpperCase()}: take match ${match.place} as this photo`;
    button.setAttribute("aria-label", said);
    button.addEventListener("click", () => (what === "why" ? why(match, image, button) : take(match, what)));
  }
  return item;
}

let rest = () => {}; // puts back what `why` has painted

async function why(match, image, button) {
  const open = button.getAttribute("aria-pressed") === "true";
  rest();
  if (open) return;
  const answer = await ask("why", "/api/explanation", { query: photos.query, number: String(match.number) });
  if (!answer) return;
  const query = inWell("query").src;
  const paint = (pressed, ...pictures) => {
    find("why-legend").hidden = !pressed;
    button.setAttribute("aria-pressed", String(pressed));
    [inWell("query"), image].forEach((picture, at) => show(picture, pictures[at]));
  };
  rest = () => {
    paint(false, query, match.picture);
    rest = () => {};
  };
  paint(true, ...answer.shares);
  find("status").textContent = "Orange speaks for the match, blue against it.";
}

async function take(photo, name) {
  try {
    const reply = await fetch(`/api/photo/${photo.number}`);
    if (!reply.ok) return tell((await reply.json()).error);
    fill(name, new File([await reply.blob()], photo.name, { type: "image/png" }));
    well(name).querySelector("input").focus();
  } catch (error) {
    tell("No answer: has dgnet stopped?");
  }
}

async function named() {
  const text = find("text").value.trim();
  const answer = text ? await ask("named", `/api/named?text=${encodeURIComponent(text)}`) : { photos: [] };
  if (!answer) return;
  find("named").replaceChildren(...answer.photos.map((photo) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const image = document.createElement("img");
    button.type = "button";
    image.alt = "";
    show(image, photo.picture);
    button.append(image, photo.name);
    button.addEventListener("click", () => take(photo, "query"));
    item.append(button);
    return item;
  }));
  find("status").textContent = text ? `${answer.photos.length} photos have that in their name.` : "";
}

// What a user does

for (const place of document.querySelectorAll(".well")) {
  const name = place.dataset.well;
  place.querySelector("input").addEventListener("change", ({ target }) => {
    if (target.files[0]) fill(name, target.files[0]);
    target.value = ""; // so that the same file can be chosen again
  });
  place.addEventListener("dragover", (event) => {
    event.preventDefault();
    place.classList.add("over");
  });
  place.addEventListener("dragleave", () => place.classList.remove("over"));
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    place.classList.remove("over");
    if (event.dataTransfer.files[0]) fill(name, event.dataTransfer.files[0]);
  });
}
// A photo that misses its place must not replace the page.
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());

find("shares").addEventListener("change", paintPair);
find("step").addEventListener("input", slide);
for (const choice of document.querySelectorAll('[name="of"]')) {
  choice.addEventListener("change", () => photos.a && photos.b && interpolate());
}
let typing;
find("text").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(named, 250);
});

(async () => {
  about = (await ask("about", "/api/about")) ?? {};
  if (!about.model) return;
  find("about").textContent = `${about.model} · ${about.size} · on ${about.device}`;
  find("notice").textContent = about.notice;
  find("notice").hidden = !about.notice;
  find("between").hidden = !about.generates;
  if (!about.generates) {
    document.querySelectorAll(".made").forEach((part) => part.remove());
    find("about").textContent += " · a teacher: it compares, and cannot paint";
  }
  find("search").hidden = !about.photos;
  find("photos").textContent = `${about.photos.toLocaleString("en")} photos`;
  find("threshold").textContent = about.threshold ? `Same person or not is ${about.threshold}.` : "The model has no threshold, so there is a ranking and no decision.";
})();
