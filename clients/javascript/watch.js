// Follows a key, a partition or a query of a table: its items as they are, then every change of them, in order.
//
// An ES module without dependencies, for browsers and Node. Connects again by itself, and goes on where it was; what
// it shows is at each moment what a Query showed at some moment, also while the items are read anew.

const TERMINAL = new Set(["AccessDenied", "TableDeleted", "StreamDisabled"]);
const SILENCE_MS = 50_000; // The node says something every 15 seconds.
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 15_000;
const REFUSALS = 3; // A signed URL may have ended in between; one that is refused again and again has not.

/**
 * Begins to follow a table.
 *
 * What is followed, one of:
 * - `url`: a function (perhaps async) from the last token to a presigned URL, for pages that hold no credentials;
 * - `endpoint`, `region`, `credentials` ({accessKeyId, secretAccessKey, sessionToken}, or a function to them), `table`
 *   and one of `key`, `partition` (with or without `index`) and `query` (members of Query), as attribute values.
 *
 * And: `transport` ("events", server-sent events, or "websocket"); `onReady(items)` when all items are there, again if
 * they were read anew; `onChange({type, key, item, at, expired})` for each change after that, `type` being "insert",
 * "modify" or "remove"; `onState(state)` ("connecting", "live", "waiting", "closed"); `onError(error)`; `raw: true`
 * for attribute values as they are on the wire.
 */
export function watch(options) {
  return new Live(options);
}

class Live {
  #options;
  #read;
  #shown = new Map();
  #next = null; // Items that are being read anew.
  #token = null;
  #descending = false;
  #sorted = null;
  #state = "connecting";
  #stop = new AbortController();
  #pause = FIRST_PAUSE_MS;
  #refusals = 0;

  constructor(options) {
    const source = typeof options.url === "function" || (options.endpoint && options.credentials && options.table);
    if (!source) throw new TypeError("watch needs url, or endpoint, credentials and table");
    this.#options = { transport: "events", ...options };
    this.#read = options.raw ? (item) => item : unmarshall;
    this.#run();
  }

  /** The items, in the order of the query. */
  get items() {
    if (!this.#sorted) {
      const rows = [...this.#shown.values()].sort((a, b) => (a.order < b.order ? -1 : a.order > b.order ? 1 : 0));
      if (this.#descending) rows.reverse();
      this.#sorted = rows.map((row) => row.item);
    }
    return this.#sorted;
  }

  /** "connecting", "live", "waiting" (to connect again) or "closed". */
  get state() {
    return this.#state;
  }

  /** Where another subscription to the same would go on. */
  get token() {
    return this.#token;
  }

  close() {
    this.#stop.abort();
    this.#enter("closed");
  }

  #enter(state) {
    if (this.#state === state || this.#state === "closed") return;
    this.#state = state;
    this.#options.onState?.(state, this);
  }

  async #run() {
    while (!this.#stop.signal.aborted) {
      let again;
      try {
        const url = await this.#url();
        again = await (this.#options.transport === "websocket" ? this.#socket(url) : this.#events(url));
      } catch (error) {
        if (this.#stop.signal.aborted) break;
        this.#options.onError?.(error, this);
        if (error.final) break;
      }
      if (this.#stop.signal.aborted) break;
      this.#enter("waiting");
      await sleep(again === "now" ? 0 : this.#pause * (0.5 + Math.random() / 2), this.#stop.signal);
      this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE_MS);
      this.#enter("connecting");
    }
    this.#enter("closed");
  }

  async #url() {
    const { url, endpoint, region = "us-east-1", credentials, table, key, partition, index, query } = this.#options;
    if (url) return String(await url(this.#token));
    const parameters = {};
    if (key) parameters.key = JSON.stringify(key);
    if (partition) parameters.partition = JSON.stringify(partition);
    if (index) parameters.index = index;
    if (query) parameters.query = JSON.stringify(query);
    if (this.#token) parameters.token = this.#token;
    const signer = typeof credentials === "function" ? await credentials() : credentials;
    const path = `/_hawker/tables/${encodeURIComponent(table)}/watch`;
    return presign({ endpoint, region, credentials: signer, path, parameters });
  }

  /** Server-sent events, read with fetch: unlike EventSource it tells why it was refused. */
  async #events(url) {
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    this.#stop.signal.addEventListener("abort", stop);
    let timer;
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(stop, SILENCE_MS);
    };
    try {
      heard();
      const response = await fetch(url, { signal: attempt.signal, cache: "no-store", credentials: "omit" });
      if (!response.ok) throw await this.#refused(response);
      const reader = response.body.getReader();
      const decoder = new TextDecoder();
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        heard();
        text += decoder.decode(value, { stream: true });
        const parts = text.split("\n\n");
        text = parts.pop();
        for (const part of parts) {
          const fields = {};
          for (const line of part.split("\n")) {
            const colon = line.indexOf(": ");
            if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
          }
          if (!fields.event) continue;
          const again = this.#take(fields.event, fields.id, JSON.parse(fields.data));
          if (again) return again;
        }
      }
    } finally {
      clearTimeout(timer);
      this.#stop.signal.removeEventListener("abort", stop);
      attempt.abort();
    }
  }

  async #refused(response) {
    const body = await response.json().catch(() => ({}));
    const code = response.headers.get("x-amzn-errortype") ?? String(response.status);
    const error = new Error(`${code}: ${body.message ?? body.Message ?? response.statusText}`);
    error.status = response.status;
    const temporary = response.status >= 500 || response.status === 429;
    this.#refusals = temporary ? 0 : this.#refusals + 1;
    error.final = this.#refusals >= REFUSALS || response.status === 400 || response.status === 404;
    return error;
  }

  #socket(url) {
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(url.replace(/^http/, "ws"));
      let timer;
      const finish = (settle, value) => {
        clearTimeout(timer);
        this.#stop.signal.removeEventListener("abort", stop);
        socket.onmessage = socket.onclose = socket.onerror = null;
        socket.close();
        settle(value);
      };
      const stop = () => finish(resolve);
      const heard = () => {
        clearTimeout(timer);
        timer = setTimeout(stop, SILENCE_MS);
      };
      this.#stop.signal.addEventListener("abort", stop);
      heard();
      socket.onmessage = ({ data }) => {
        heard();
        const { event, id, data: content } = JSON.parse(data);
        try {
          const again = this.#take(event, id, content);
          if (again) finish(resolve, again);
        } catch (error) {
          finish(reject, error);
        }
      };
      socket.onclose = () => finish(resolve);
      socket.onerror = () => finish(reject, new Error("the WebSocket could not be opened, or failed"));
    });
  }

  /** Takes one event; answers whether and when to connect again. */
  #take(event, id, data) {
    switch (event) {
      case "open":
        this.#descending = data.Descending;
        this.#next = data.Resumed ? null : new Map();
        break;
      case "items":
        for (const row of data.Items) this.#put(row);
        break;
      case "ready":
        this.#pause = FIRST_PAUSE_MS;
        this.#refusals = 0;
        if (this.#next) {
          this.#shown = this.#next;
          this.#next = this.#sorted = null;
          this.#token = id;
          this.#enter("live");
          this.#options.onReady?.(this.items, this);
          return undefined;
        }
        this.#enter("live");
        break;
      case "change":
        this.#change(data, id);
        break;
      case "reset":
        this.#next = new Map();
        break;
      case "end":
        if (TERMINAL.has(data.Reason)) {
          throw Object.assign(new Error(`${data.Reason}: ${data.Message}`), { reason: data.Reason, final: true });
        }
        return data.Reason === "CredentialsExpired" ? "now" : "later";
    }
    if (id !== undefined) this.#token = id || null;
    return undefined;
  }

  #put(row) {
    const item = this.#read(row.Item);
    (this.#next ?? this.#shown).set(identity(row.Keys), { order: row.Order, item });
    return item;
  }

  #change(data, id) {
    const type = data.EventName.toLowerCase();
    const item = type === "remove" ? undefined : this.#put(data);
    if (type === "remove") (this.#next ?? this.#shown).delete(identity(data.Keys));
    if (id !== undefined) this.#token = id;
    if (this.#next) return;
    this.#sorted = null;
    const change = { type, key: this.#read(data.Keys), item, at: new Date(data.At), expired: data.Expired === true };
    this.#options.onChange?.(change, this);
  }
}

function identity(keys) {
  return JSON.stringify(Object.keys(keys).sort().map((name) => [name, keys[name]]));
}

function sleep(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}

/** An item as plain values. Numbers that a double can not hold stay text; binary becomes Uint8Array, sets become Set. */
export function unmarshall(item) {
  return Object.fromEntries(Object.entries(item).map(([name, value]) => [name, plain(value)]));
}

function plain(value) {
  const [[kind, content]] = Object.entries(value);
  switch (kind) {
    case "N":
      return number(content);
    case "NULL":
      return null;
    case "B":
      return bytes(content);
    case "L":
      return content.map(plain);
    case "M":
      return unmarshall(content);
    case "SS":
      return new Set(content);
    case "NS":
      return new Set(content.map(number));
    case "BS":
      return new Set(content.map(bytes));
    default:
      return content; // S, BOOL
  }
}

function number(text) {
  const value = Number(text);
  return String(value) === text || Number.isSafeInteger(value) ? value : text;
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/**
 * A URL of the node's own API, signed by Signature Version 4 for `expires` seconds. Needs Web Crypto: Node, or a page
 * over https or from localhost.
 */
export async function presign({ endpoint, region = "us-east-1", credentials, path, parameters = {}, expires = 300 }) {
  const { accessKeyId, secretAccessKey, sessionToken } = credentials;
  const base = new URL(path, endpoint);
  const now = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
  const scope = `${now.slice(0, 8)}/${region}/hawker/aws4_request`;
  const all = {
    ...parameters,
    "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
    "X-Amz-Credential": `${accessKeyId}/${scope}`,
    "X-Amz-Date": now,
    "X-Amz-Expires": String(expires),
    "X-Amz-SignedHeaders": "host",
    ...(sessionToken ? { "X-Amz-Security-Token": sessionToken } : {}),
  };
  const pairs = Object.entries(all).map(([name, value]) => `${encode(name)}=${encode(value)}`);
  const query = pairs.sort().join("&");
  const path_ = base.pathname.split("/").map(encode).join("/");
  const canonical = ["GET", path_, query, `host:${base.host}`, "", "host", hex(await sha256(""))].join("\n");
  const text = ["AWS4-HMAC-SHA256", now, scope, hex(await sha256(canonical))].join("\n");
  let key = utf8(`AWS4${secretAccessKey}`);
  for (const part of scope.split("/")) key = await hmac(key, part);
  return `${base.origin}${base.pathname}?${query}&X-Amz-Signature=${hex(await hmac(key, text))}`;
}

const utf8 = (text) => new TextEncoder().encode(text);
const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
const sha256 = (text) => crypto.subtle.digest("SHA-256", utf8(text));

async function hmac(key, text) {
  const imported = await crypto.subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return crypto.subtle.sign("HMAC", imported, utf8(text));
}

function encode(text) {
  const code = (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`;
  return encodeURIComponent(text).replace(/[!'()*]/g, code);
}
