"use strict";
// One session at a time: created over HTTP, watched and steered over a WebSocket, as docs/gateway.md tells. Its chunks are
// JPEG files, each drawn at its time. The token stays in this page's memory.

const VERSION = 1, DISCONTINUITY = 2, GAP = 4, HEAD_BYTES = 24;
const ATTEMPTS_MAX = 10, PAUSE_MS = 250, PAUSE_MS_MAX = 10000, LATENCIES_MAX = 1000, KEPT_MS = 2000;
const FINAL = new Set([4400, 4404, 4409, 1009]);
const NOT_DONE = new Set(["refused", "invalid", "full", "started"]);

const at = (id) => document.getElementById(id);
const context = at("picture").getContext("2d");
let session = null;

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const pauseMs = (failures, retryAfterS) =>
  Math.max(Math.min(PAUSE_MS_MAX, PAUSE_MS * 2 ** (failures - 1)) * (0.5 + 0.5 * Math.random()), 1000 * Math.min(60, retryAfterS || 0));

function say(text, alarm = false) {
  at("status").textContent = text;
  at("status").classList.toggle("alarm", alarm);
}

// What comes before and after a session.

async function create(body) {
  for (let failures = 1; ; failures++) {
    let fault = { message: "the gateway cannot be reached" };
    try {
      const answer = await fetch("v1/sessions", {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
      if (answer.ok) return await answer.json();
      fault = (await answer.json()).error;
      if (![429, 503].includes(answer.status)) throw new Error([fault.field, fault.message].filter(Boolean).join(": "));
    } catch (error) {
      if (!(error instanceof TypeError || error instanceof SyntaxError)) throw error;
    }
    if (failures > ATTEMPTS_MAX) throw new Error(fault.message);
    const ms = pauseMs(failures, fault.retry_after_s);
    say(`${fault.message}; trying again in ${Math.ceil(ms / 1000)} s`, true);
    await sleep(ms);
  }
}

function end(gone) {
  fetch(`v1/sessions/${encodeURIComponent(gone.id)}`, {
    method: "DELETE", headers: { Authorization: `Bearer ${gone.token}` }, keepalive: true }).catch(() => {});
}

function enable(on) {
  for (const each of document.querySelectorAll("#pause, #end, .arrows button")) each.disabled = !on;
  at("start").textContent = on ? "Change" : "Start";
  at("pause").textContent = "Pause";
  at("more").hidden = on;
}

// A session: its connection, what has come, and what is shown when.

class Session {
  constructor(created, beganMs) {
    this.id = created.session_id;
    this.token = created.token;
    this.beganMs = beganMs;
    this.socket = null;
    this.lastWords = null;
    this.failures = 0;
    this.isOver = false;
    this.video = null;
    this.frames = []; // {atMs, bitmap}, in order
    this.toTake = []; // {atMs, seq}: chunks that are taken when they begin to be shown
    this.next = null;
    this.taken = 0;
    this.lineage = null;
    this.endsMs = null; // when all that has come will have been shown
    this.ahead = 1;
    this.isActive = false;
    this.pausedMs = null;
    this.mayComeMs = null;
    this.latencies = [];
    this.felt = { chunks: 0, first: null, stalls: 0, stallMs: 0, breaks: 0, lost: 0 };
    this.open();
  }

  open() {
    const url = new URL("v1/realtime/video", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.lastWords = null;
    this.socket.onopen = () => {
      this.send({ type: "session.start", session_id: this.id, token: this.token, from_seq: this.next, acks: true });
      if (this.pausedMs !== null) this.send({ type: "session.pause" });
    };
    this.socket.onmessage = (event) => (typeof event.data === "string" ? this.heard(JSON.parse(event.data)) : this.came(event.data));
    this.socket.onclose = (event) => this.closed(event.code);
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  closed(code) {
    if (this.isOver) return;
    this.mayComeMs = null;
    if (FINAL.has(code) || ++this.failures > ATTEMPTS_MAX) {
      this.over(this.lastWords ? this.lastWords.message : "the gateway cannot be reached", true);
      return;
    }
    this.felt.lost += 1;
    const ms = pauseMs(this.failures, this.lastWords && this.lastWords.retry_after_s);
    say(`The connection is lost; trying again in ${Math.ceil(ms / 1000)} s`, true);
    setTimeout(() => this.isOver || this.open(), ms);
  }

  over(text, alarm = false) {
    this.isOver = true;
    this.socket.close();
    for (const frame of this.frames.splice(0)) frame.bitmap?.close();
    if (session === this) {
      session = null;
      enable(false);
      say(text, alarm);
    }
  }

  heard(message) {
    const nowMs = performance.now();
    if (message.type === "session.started") {
      this.ahead = message.ahead;
      this.next = this.taken = message.from_seq;
    } else if (message.type === "session.state") {
      this.isActive = message.state === "active";
      const before = message.position ? `, ${message.position} before it` : "";
      if (this.pausedMs === null) say(`The session is ${message.state}${before}`);
    } else if (message.type === "session.updated") {
      if (message.prompt !== undefined) say("The new prompt is shown from now on");
    } else if (message.type === "video.start") {
      this.show(message);
    } else if (message.type === "session.done") {
      this.over(`The session is over: ${message.reason}`);
    } else if (message.type === "error" && NOT_DONE.has(message.code)) {
      say(`Not done: ${message.message}`, true);
    } else if (message.type === "error") {
      this.lastWords = message;
    }
    this.ask(nowMs);
  }

  show(video) {
    this.video = video;
    if (!video.width || !video.height) return;
    at("picture").width = video.width;
    at("picture").height = video.height;
    at("picture").style.aspectRatio = `${video.width} / ${video.height}`;
  }

  ask(nowMs) { // whether the next chunk may come, and since when
    const mayCome = this.isActive && this.pausedMs === null && this.next - this.taken < this.ahead;
    this.mayComeMs = mayCome ? this.mayComeMs ?? nowMs : null;
  }

  came(data) {
    const nowMs = performance.now(), head = new DataView(data);
    const flags = head.getUint8(1), seq = Number(head.getBigUint64(16)), lineage = Number(head.getBigUint64(8));
    const isNext = seq === this.next || (flags & GAP && seq > this.next);
    if (head.getUint8(0) !== VERSION || !isNext) {
      this.over(`Chunk ${seq} has come where ${this.next} is the next`, true);
      return;
    }
    if (this.felt.first === null) this.felt.first = nowMs - this.beganMs;
    else if (this.mayComeMs !== null && this.latencies.push(nowMs - this.mayComeMs) > LATENCIES_MAX) this.latencies.shift();
    this.failures = 0;
    this.felt.chunks += 1;
    this.felt.breaks += Boolean(flags & DISCONTINUITY || (this.lineage !== null && lineage !== this.lineage));
    this.lineage = lineage;
    this.next = seq + 1;
    this.mayComeMs = null;
    this.plan(parts(new Uint8Array(data, HEAD_BYTES + head.getUint32(4))), seq, nowMs);
    this.ask(nowMs);
  }

  plan(files, seq, nowMs) { // when the chunk is shown: after what has come before it, or at once
    const playMs = this.video?.fps ? (1000 * files.length) / this.video.fps : 0;
    const shownMs = this.pausedMs ?? nowMs;
    if (this.endsMs !== null && this.pausedMs === null && nowMs > this.endsMs) {
      this.felt.stalls += 1;
      this.felt.stallMs += nowMs - this.endsMs;
    }
    const beginsMs = Math.max(shownMs, this.endsMs ?? 0);
    this.endsMs = beginsMs + playMs;
    this.toTake.push({ atMs: beginsMs, seq });
    files.forEach((file, index) => {
      const frame = { atMs: beginsMs + (index * playMs) / files.length, bitmap: null };
      this.frames.push(frame);
      createImageBitmap(new Blob([file], { type: "image/jpeg" })).then(
        (bitmap) => (this.frames.includes(frame) ? (frame.bitmap = bitmap) : bitmap.close()),
        () => say("A picture cannot be decoded", true));
    });
    this.take();
  }

  take() { // tell the gateway which chunks have begun to be shown; in a pause, all that have come
    const nowMs = performance.now();
    let taken = this.taken;
    while (this.toTake.length && (this.pausedMs !== null || this.toTake[0].atMs <= nowMs)) taken = this.toTake.shift().seq + 1;
    if (taken > this.taken) {
      this.taken = taken;
      this.send({ type: "session.ack", seq: taken });
      this.ask(nowMs);
    }
    if (this.pausedMs === null) this.drop(nowMs - KEPT_MS);
  }

  drop(beforeMs) { // pictures that nobody saw: the page is in the background
    while (this.frames.length && this.frames[0].atMs < beforeMs) this.frames.shift().bitmap?.close();
  }

  draw() {
    if (this.pausedMs !== null) return;
    const nowMs = performance.now();
    let newest = null;
    while (this.frames.length && this.frames[0].atMs <= nowMs && this.frames[0].bitmap) {
      newest?.close();
      newest = this.frames.shift().bitmap;
    }
    if (newest) {
      context.drawImage(newest, 0, 0, at("picture").width, at("picture").height);
      newest.close();
    }
  }

  pause() {
    const nowMs = performance.now();
    if (this.pausedMs === null) {
      this.pausedMs = nowMs;
      this.send({ type: "session.pause" });
    } else {
      const pausedMs = nowMs - this.pausedMs;
      for (const frame of this.frames) frame.atMs += pausedMs;
      if (this.endsMs !== null) this.endsMs += pausedMs;
      if (this.endsMs < nowMs) this.endsMs = null;
      this.pausedMs = null;
      this.send({ type: "session.resume" });
    }
    at("pause").textContent = this.pausedMs === null ? "Pause" : "Go on";
    say(this.pausedMs === null ? "Going on" : "Paused");
    this.take();
    this.ask(nowMs);
  }
}

function parts(body) { // the JPEG files of a multipart body
  const files = [], text = new TextDecoder("latin1");
  for (let from = 0; from < body.length; ) {
    const head = text.decode(body.subarray(from, from + 256)), ends = head.indexOf("\r\n\r\n");
    const length = /Content-Length: (\d{1,9})\r\n/.exec(head);
    if (ends < 0 || !length) break;
    files.push(body.subarray(from + ends + 4, from + ends + 4 + Number(length[1])));
    from += ends + 4 + Number(length[1]) + 2;
  }
  return files;
}

// What somebody does.

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const prompt = at("prompt").value;
  if (session) {
    session.send({ type: "session.update", prompt });
    return;
  }
  at("start").disabled = true;
  say("Starting");
  const body = { prompt, profile: at("profile").value, encoding: "mjpeg", scale: Number(at("scale").value) };
  if (at("seed").value) body.seed = Number(at("seed").value);
  try {
    const beganMs = performance.now();
    session = new Session(await create(body), beganMs);
    enable(true);
    at("start").blur();
  } catch (error) {
    say(error.message, true);
  }
  at("start").disabled = false;
});

at("pause").addEventListener("click", () => session?.pause());
at("end").addEventListener("click", () => {
  if (!session) return;
  end(session);
  session.over("The session is over");
});
addEventListener("pagehide", () => session && end(session));

const CONTROLS = { ArrowUp: "up", ArrowDown: "down", ArrowLeft: "left", ArrowRight: "right" };
let held = "";

function steer(control) {
  if (!session || control === held) return;
  held = control;
  session.send({ type: "session.update", control });
  for (const each of document.querySelectorAll(".arrows button")) each.classList.toggle("held", each.dataset.control === held);
}

addEventListener("keydown", (event) => {
  if (!CONTROLS[event.key] || !session || /^(INPUT|TEXTAREA)$/.test(event.target.tagName)) return;
  event.preventDefault();
  steer(CONTROLS[event.key]);
});
addEventListener("keyup", (event) => CONTROLS[event.key] === held && steer(""));
addEventListener("blur", () => steer(""));
for (const each of document.querySelectorAll(".arrows button")) {
  each.addEventListener("pointerdown", () => steer(each.dataset.control));
  for (const ends of ["pointerup", "pointercancel", "pointerleave"]) each.addEventListener(ends, () => steer(""));
}

// What is seen.

function tell() {
  if (!session) return;
  const { felt, latencies } = session, sorted = [...latencies].sort((a, b) => a - b);
  const quantile = (share) => Math.round(sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]);
  at("chunks").textContent = felt.chunks;
  at("first").textContent = felt.first === null ? "-" : `${(felt.first / 1000).toFixed(2)} s`;
  at("latency").textContent = sorted.length ? `${quantile(0.5)} ms, ${quantile(0.99)} ms` : "-";
  at("stalls").textContent = felt.stalls ? `${felt.stalls}, ${(felt.stallMs / 1000).toFixed(1)} s` : "0";
  at("breaks").textContent = felt.breaks;
  at("lost").textContent = felt.lost;
}

function draw() {
  session?.draw();
  requestAnimationFrame(draw);
}

setInterval(() => session?.take(), 20);
setInterval(tell, 250);
requestAnimationFrame(draw);
