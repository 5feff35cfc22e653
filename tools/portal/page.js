"use strict";
// What the module answers is in docs/portal.md. Names of networks come from the air: they are
// only ever put into text nodes. The builder takes out white space: end every statement with `;`.

const TEXTS = {{texts}};

const language =
  navigator.languages
    .map((tag) => tag.toLowerCase())
    .map((tag) => (TEXTS[tag] ? tag : tag.split("-")[0]))
    .find((tag) => TEXTS[tag]) || "en";

// Milliseconds without an answer until the page says that the module is out of reach.
const PATIENCE = 6000;

// And until it gives up hope: by then a module that has joined has almost certainly gone.
const HOPE = 75000;

// What is to blame for a 400: its input, and what the complaint is shown below.
const INPUTS = { ssid: "ssid", passphrase: "password", endpoint: "endpoint" };
const PLACES = { ssid: "ssidPart", password: "optional", endpoint: "endpointHint" };

const find = (id) => document.getElementById(id);
const text = (key, ...values) =>
  TEXTS[language][key].replace(/\{(\d)\}/g, (_, index) => values[index]);
const put = (id, line) => {
  // A live region is not to say the same again.
  if (find(id).textContent !== line) {
    find(id).textContent = line;
  }
};

let token = "";
let name = "ExpressLink-…";
// What is shown: list, enter, trying, joined, away or end; nothing yet at first.
let view = "";
// The network in the form: {ssid} or {hex}, `secure`; null for one that is typed in.
let chosen = null;
// What the last page says.
let farewell = "";
// The network that is being tried, as it stands in a sentence.
let tried = "";
// What is said below "Joining …".
let hint = "tryingHint";
// Whether a join was sent and its end has not been seen.
let waiting = false;
let heard = Date.now();
let poller = 0;
let turn = 0;

// A network's name as text; bytes that are none show as U+FFFD.
const label = ({ ssid, hex }) =>
  hex
    ? new TextDecoder().decode(new Uint8Array(hex.match(/../g).map((pair) => parseInt(pair, 16))))
    : ssid;

// The same inside a sentence: isolated, so that a right-to-left name leaves the rest alone.
const quoted = (network) =>
  label(network).replace(/.*[^ -~].*/s, (unusual) => "\u2068" + unusual + "\u2069");

// One request. `status` 0: no answer, or not one of the module's.
async function ask(path, body) {
  const stop = new AbortController();
  const late = setTimeout(() => stop.abort(), path === "networks" ? 12000 : 8000);
  const options = { cache: "no-store", signal: stop.signal };
  if (body) {
    options.method = "POST";
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify({ token, ...body });
  }
  try {
    const answer = await fetch("/api/" + path, options);
    const content = await answer.text();
    const data = content[0] === "{" ? JSON.parse(content) : {};
    return { status: answer.status, data, after: +answer.headers.get("Retry-After") };
  } catch {
    return { status: 0, data: {} };
  } finally {
    clearTimeout(late);
  }
}

async function askState() {
  const { data } = await ask("state");
  if (!data.state) {
    return null;
  }
  heard = Date.now();
  token = data.token;
  name = document.title = data.name || name;
  put("name", name);
  find("open").hidden = !data.open;
  find("endpoint").placeholder = data.endpoint;
  return data;
}

// A request that changes something. A module that has started again has another token.
async function send(path, body) {
  const answer = await ask(path, body);
  return answer.status === 403 && (await askState()) ? ask(path, body) : answer;
}

// Show a view, and move the focus there unless the page has only just come up.
function show(next, focus) {
  const section = find(next) || find("result");
  if (section.hidden) {
    for (const each of document.querySelectorAll("section")) {
      each.hidden = each !== section;
    }
    scrollTo(0, 0);
    focus = focus || (view && section.querySelector("h2"));
  }
  view = next;
  if (focus) {
    focus.focus();
  }
}

// Show how it went or goes: `look` is busy, good (a tick), or still (neither).
function tell(next, title, detail, look) {
  put("outcome", title);
  put("detail", detail);
  find("result").className = look;
  find("done").hidden = next !== "joined";
  put("left", "");
  put("address", "");
  show(next);
}

// The list of networks.

function row(network) {
  const made = find("network").content.cloneNode(true);
  const level = 1 + [-75, -65, -55].filter((limit) => network.rssi >= limit).length;
  const secure = text(network.secure ? "secure" : "unsecured");
  made.querySelector("span").textContent = label(network);
  made.querySelector("i").textContent = `${secure}, ${text("signal", level)}`;
  made.querySelector("svg + svg").dataset.level = level;
  if (!network.secure) {
    made.querySelector("svg").remove();
  }
  made.querySelector("button").onclick = () => enter(network);
  return made;
}

function note(line, busy) {
  put("note", line);
  find("note").className = busy ? "hint busy" : "hint";
}

async function look() {
  if (find("note").className === "hint busy") {
    return;
  }
  note(text("looking"), true);
  const { data } = await ask("networks");
  if (data.networks) {
    const other = find("other").parentNode;
    other.parentNode.replaceChildren(...data.networks.map(row), other);
    const count = data.networks.length;
    note(text("found", count) + (count ? "" : "\n" + text("closer")));
    return;
  }
  note(text("scanFailed") + "\n" + text("closer"));
  // Somebody else's try, or the module is gone: its state tells.
  if (view === "list") {
    poll();
  }
}

function list() {
  if (view !== "list") {
    show("list");
    look();
  }
}

// The form.

// Say what is wrong, beside the input that is to blame (its id) when that is to be seen.
function complain(line, id) {
  for (const each in PLACES) {
    find(each).removeAttribute("aria-invalid");
  }
  if (id === "endpoint") {
    find("advanced").open = true;
  }
  const input = find(id);
  const seen = input && input.offsetParent;
  find(PLACES[seen ? id : "password"]).after(find("error"));
  put("error", line);
  if (seen) {
    input.setAttribute("aria-invalid", true);
    input.focus();
  }
}

function reveal(shown) {
  find("password").type = shown ? "text" : "password";
  put("reveal", text(shown ? "hide" : "show"));
}

function forget() {
  find("password").value = "";
  reveal(false);
}

// Set the form up for a network, or for one that is typed in (null). `secure` is not known when
// the page was loaded again.
function prepare(network) {
  chosen = network;
  const secure = chosen ? chosen.secure : undefined;
  put("chosen", chosen ? label(chosen) : text("other"));
  find("ssidPart").hidden = !!chosen;
  find("ssid").required = !chosen;
  find("passwordPart").hidden = secure === false;
  find("password").required = !!secure;
  put("optional", secure ? "" : text(secure === false ? "none" : "optional"));
}

function enter(network) {
  forget();
  complain("");
  prepare(network);
  const first = network ? find("password") : find("ssid");
  show("enter", network && network.secure === false ? null : first);
}

// Keep the button from being pressed for some seconds.
function hold(until) {
  const left = Math.ceil((until - Date.now()) / 1000);
  find("connect").disabled = left > 0;
  put("connect", left > 0 ? text("wait", left) : text("connect"));
  if (left > 0) {
    setTimeout(() => hold(until), 1000);
  } else {
    complain("");
  }
}

async function join() {
  const network = chosen || { ssid: find("ssid").value };
  const endpoint = find("endpoint").value.trim();
  const body = network.hex ? { hex: network.hex } : { ssid: network.ssid };
  body.passphrase = find("password").value;
  if (endpoint) {
    body.endpoint = endpoint;
  }
  complain("");
  hint = "tryingHint";
  trying(network);
  const { status, data, after } = await send("join", body);
  if (status === 202 || status === 409 || !status) {
    // Without an answer the module may still be at it; when it is busy, somebody else began.
    waiting = true;
    if (status === 409) {
      hint = "busy";
    }
    again(1);
    return;
  }
  tried = "";
  show("enter");
  const why = status === 429 ? text("tooMany") : data.error || text("refused");
  complain(why, INPUTS[data.field]);
  if (status === 429) {
    hold(Date.now() + (after || 60) * 1000);
  }
}

// Results.

function trying(network) {
  tried = quoted(network);
  tell("trying", text("trying", tried), text(hint), "busy");
}

function joined(state) {
  find("form").reset();
  reveal(false);
  farewell = text("endHint", name, quoted(state));
  tell("joined", text("joined"), text("joinedHint", quoted(state)), "good");
  put("left", text("left", state.left));
  put("address", text("address", state.address));
}

function failed(state) {
  if (label(chosen || { ssid: find("ssid").value }) !== label(state)) {
    prepare({ ssid: state.ssid, hex: state.hex });
  }
  const wrong = state.reason === "wrong passphrase";
  const known = { "not found": "notFound", timeout: "timeout" }[state.reason] || "failed";
  show("enter");
  complain(text(wrong ? "wrong" : known, quoted(state), state.reason), wrong && "password");
}

function finish() {
  tell("end", text("end"), farewell, "good");
}

function again(seconds) {
  clearTimeout(poller);
  poller = setTimeout(poll, seconds * 1000);
}

// Ask how it stands, show it, and go on while something can still change by itself.
async function poll() {
  clearTimeout(poller);
  const mine = ++turn;
  const state = await askState();
  if (mine !== turn || view === "end") {
    return;
  }
  if (!state) {
    const silent = Date.now() - heard;
    if (silent > PATIENCE && view === "joined") {
      finish();
      return;
    }
    if (silent > HOPE) {
      tell("away", text("away"), text(tried ? "lost" : "lostIdle", name, tried), "still");
    } else if (silent > PATIENCE) {
      tell("away", text("away"), text("awayHint", name), "busy");
    }
    again(1.5);
    return;
  }
  const kind = state.state;
  const missed = waiting && kind === "idle";
  waiting = kind === "trying";
  tried = waiting ? tried : "";
  if (kind === "trying") {
    trying(state);
    again(1);
  } else if (kind === "joined") {
    joined(state);
    again(1.5);
  } else if (missed) {
    // The request did not arrive, or the module has started again.
    show("enter");
    complain(text("refused"));
  } else if (kind === "idle") {
    list();
  } else if (view !== "list") {
    failed(state);
  }
}

function start() {
  document.documentElement.lang = language;
  document.documentElement.dir = TEXTS[language].dir || "ltr";
  for (const each of document.querySelectorAll("[data-text]")) {
    each.textContent = text(each.dataset.text);
  }
  reveal(false);
  find("refresh").onclick = look;
  find("other").onclick = () => enter(null);
  find("back").onclick = () => {
    forget();
    list();
  };
  find("reveal").onclick = () => reveal(find("password").type === "password");
  find("form").onsubmit = (event) => {
    event.preventDefault();
    join();
  };
  find("done").onclick = () => {
    finish();
    send("done", {});
  };
  // A page that was asleep in a pocket asks at once.
  document.onvisibilitychange = () => {
    if (!document.hidden && ["trying", "joined", "away"].includes(view)) {
      poll();
    }
  };
  poll();
}

start();
