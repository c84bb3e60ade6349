// Keeps a page current: /v1/stream is the beat, the server renders, this module only puts what
// changed into place. Without it the page is complete, and as old as it says.

/** The least time between two renderings, in milliseconds. */
const REFRESH_MS = 2000;
/** From this age on, in seconds, a page says that its numbers are old. */
const STALE_S = 120;

const live = document.getElementById("live");
const lost = document.getElementById("lost");
let refreshedAt = performance.now();
let ageReadAt = performance.now();
let isRefreshing = false;

/** Same words as the server's `format::duration`. */
function duration(seconds) {
  const units = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];
  const unit = units.find(([major]) => seconds >= major);
  if (!unit) return `${seconds} s`;
  const [major, majorName, minor, minorName] = unit;
  const rest = Math.floor((seconds % major) / minor);
  return `${Math.floor(seconds / major)} ${majorName}` + (rest ? ` ${rest} ${minorName}` : "");
}

/** The age goes on by our monotonic clock, so a wrong wall clock here does not matter. */
function tickAge() {
  const age = document.getElementById("age");
  if (!age) return;
  const passed_s = Math.floor((performance.now() - ageReadAt) / 1000);
  const age_s = Number(age.dataset.ageS) + passed_s;
  age.textContent = duration(age_s);
  document.getElementById("stale").hidden = age_s <= STALE_S;
}

function notice(text) {
  lost.textContent = text;
  lost.hidden = text === "";
}

async function refresh() {
  const isDue = performance.now() - refreshedAt >= REFRESH_MS;
  if (!isDue || isRefreshing || document.hidden) return;
  isRefreshing = true;
  try {
    const response = await fetch(live.dataset.part, { headers: { accept: "application/problem+json" } });
    const text = await response.text();
    if (!response.ok) throw new Error(JSON.parse(text).detail);
    const wanted = new DOMParser().parseFromString(text, "text/html").body;
    const focused = document.activeElement;
    morph(live, wanted);
    // A row that moved takes its focus along.
    if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
    ageReadAt = refreshedAt = performance.now();
    tickAge();
    notice("");
  } catch (error) {
    notice(`No new numbers: ${error.message}`);
  } finally {
    isRefreshing = false;
  }
}

/** Whether a node can become another by its attributes and children alone. */
function isSame(node, wanted) {
  return node.nodeType === wanted.nodeType && node.nodeName === wanted.nodeName &&
    node.dataset?.key === wanted.dataset?.key;
}

/** The first of `node` and its next siblings that is more than space between tags. */
function solid(node) {
  while (node?.nodeType === Node.TEXT_NODE && node.nodeValue.trim() === "") node = node.nextSibling;
  return node;
}

/** Makes the children of `node` those of `wanted`, keeping nodes: focus, scroll and selection stay. */
function morph(node, wanted) {
  const keyed = new Map();
  for (const child of node.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  let next = solid(node.firstChild);
  for (let child = solid(wanted.firstChild); child; child = solid(child.nextSibling)) {
    const known = child.dataset?.key ? keyed.get(child.dataset.key) : next;
    if (!known || !isSame(known, child)) {
      node.insertBefore(document.importNode(child, true), next);
      continue;
    }
    if (known === next) next = solid(next.nextSibling);
    else node.insertBefore(known, next);
    become(known, child);
  }
  while (next) {
    const after = solid(next.nextSibling);
    next.remove();
    next = after;
  }
}

function become(node, wanted) {
  if (node.nodeType !== Node.ELEMENT_NODE) {
    if (node.nodeValue !== wanted.nodeValue) node.nodeValue = wanted.nodeValue;
    return;
  }
  for (const { name, value } of wanted.attributes) {
    if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  }
  for (const { name } of [...node.attributes]) {
    // Whether a table is open is the reader's.
    if (!wanted.hasAttribute(name) && name !== "open") node.removeAttribute(name);
  }
  morph(node, wanted);
}

const stream = new EventSource("/v1/stream");
stream.addEventListener("fleet", refresh);
stream.addEventListener("problem", (event) => notice(`No new numbers: ${JSON.parse(event.data).detail}`));
stream.addEventListener("error", () => notice("The connection is lost; trying again. These numbers are no longer current."));
document.addEventListener("visibilitychange", refresh);
setInterval(tickAge, 1000);
