// Talking to the server: relative addresses only, one place for errors.

let lost = false;
const listeners = new Set();
const mourners = new Set();

/** Call with number and reason of a scene that the server has closed. */
export function onClosed(listener) {
  mourners.add(listener);
}

/** Call with true when the server stops answering, with false when it is back. */
export function onLost(listener) {
  listeners.add(listener);
}

function tell(state) {
  if (state === lost) return;
  lost = state;
  for (const listener of listeners) listener(state);
  if (state) setTimeout(ping, 2000);
}

async function ping() {
  try {
    const answer = await fetch("api/state", { cache: "no-store" });
    // A new server at the same address has another token: the page must be opened anew.
    if (answer.ok) return tell(false);
  } catch { /* still away */ }
  setTimeout(ping, 2000);
}

/** What the server said was wrong. */
export class Refused extends Error {}

async function answered(request) {
  let answer;
  try {
    answer = await request;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    tell(true);
    throw new Refused("the server does not answer");
  }
  tell(false);
  if (answer.ok) return answer;
  let text = `the server said ${answer.status}`;
  try {
    const said = await answer.json();
    text = said.error ?? text;
    if (answer.status === 410) for (const listener of mourners) listener(Number(said.closed), text);
  } catch { /* no JSON */ }
  throw new Refused(text);
}

function address(name, query) {
  const said = new URLSearchParams();
  for (const [key, value] of Object.entries(query ?? {})) if (value !== undefined && value !== null) said.set(key, value);
  return `api/${name}?${said}`;
}

function asked(body, signal) {
  return { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal };
}

export async function get(name, query, signal) {
  return (await answered(fetch(address(name, query), { signal }))).json();
}

export async function getBytes(name, query, signal) {
  return (await answered(fetch(address(name, query), { signal }))).arrayBuffer();
}

export async function post(name, body, signal) {
  return (await answered(fetch(`api/${name}`, asked(body, signal)))).json();
}

export async function postBytes(name, body, signal) {
  return (await answered(fetch(`api/${name}`, asked(body, signal)))).arrayBuffer();
}

/** Send a file of this computer to where the server runs; `show` is told the share that is there. Returns its path and kind. */
export function upload(file, show) {
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest(); // fetch does not tell how far it is
    request.open("POST", address("upload", { name: file.name }));
    request.setRequestHeader("content-type", "application/octet-stream");
    request.responseType = "json";
    request.upload.onprogress = (event) => show(event.loaded / Math.max(event.total, 1));
    request.onload = () => (request.status === 200 ? done(request.response) : fail(new Refused(request.response?.error ?? `the server said ${request.status}`)));
    request.onerror = () => fail(new Refused(`${file.name} was not sent: the server does not answer`));
    request.send(file);
  });
}

/** Fetch a file and hand it to the browser's downloads. */
export async function download(body) {
  const answer = await answered(fetch("api/download", asked(body)));
  const said = answer.headers.get("content-disposition") ?? "";
  const name = decodeURIComponent(/filename\*?=(?:utf-8'')?"?([^";]+)/i.exec(said)?.[1] ?? "occupy.bin");
  saveAs(await answer.blob(), name);
  return name;
}

/** Hand bytes to the browser's downloads. */
export function saveAs(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** Follow a job to its end; `show` is called with how it stands. */
export async function follow(job, show) {
  for (let wait = 40; ; wait = Math.min(120, wait * 1.3)) {
    const now = await get("job", { job });
    show?.(now);
    if (now.state === "done") return now;
    if (now.state === "failed") throw new Refused(now.error);
    if (now.state === "stopped") throw new Refused("stopped");
    await new Promise((done) => setTimeout(done, wait));
  }
}

/** Run only the latest of many calls: a new one aborts the one before. */
export function latest(work) {
  let current = null;
  return async (...said) => {
    current?.abort();
    const mine = (current = new AbortController());
    try {
      return await work(mine.signal, ...said);
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    } finally {
      if (current === mine) current = null;
    }
    return undefined;
  };
}

/** Run one call at a time; of those that come meanwhile, only the last. Nothing piles up, every step shows. */
export function paced(work) {
  let busy = false;
  let next = null;
  const run = async (said) => {
    busy = true;
    try {
      await work(...said);
    } finally {
      busy = false;
      if (next) {
        const then = next;
        next = null;
        run(then);
      }
    }
  };
  return (...said) => {
    if (busy) next = said;
    else run(said);
  };
}
