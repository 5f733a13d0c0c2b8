// The page: shows what the table has. It changes nothing on the screen by itself; every change comes back from the table.

import { watch } from "./watch.js";

const list = decodeURIComponent(location.hash.slice(1)) || "weekend";
const at = (id) => document.getElementById(id);
at("title").textContent = list;
document.title = `${list} – shopping list`;
addEventListener("hashchange", () => location.reload());

const transport = new URLSearchParams(location.search).get("transport") ?? "events";
const live = watch({
  url: async (token) => {
    const answer = await fetch(`/watch/${encodeURIComponent(list)}?${new URLSearchParams(token ? { token } : {})}`);
    if (!answer.ok) throw new Error(`no URL to watch the list by: ${answer.status}`);
    return answer.text();
  },
  transport,
  onReady: () => show(),
  onChange: ({ type, key }) => show(type === "remove" ? null : key.item),
  onState: (state) => {
    at("state").textContent = at("state").dataset.state = state;
  },
  onError: (error) => console.warn(error.message),
});

function show(fresh) {
  const rows = live.items.map(({ item, name, done }) => {
    const row = document.createElement("li");
    row.dataset.item = item;
    row.className = [done ? "done" : "", item === fresh ? "fresh" : ""].join(" ");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: done });
    box.onchange = () => send("PUT", `/${item}`, { done: box.checked });
    const text = Object.assign(document.createElement("span"), { textContent: name });
    const label = document.createElement("label");
    label.append(box, text);
    const remove = Object.assign(document.createElement("button"), { textContent: "✕", title: `Remove ${name}` });
    remove.onclick = () => send("DELETE", `/${item}`);
    row.append(label, remove);
    return row;
  });
  at("items").replaceChildren(...rows);
  const left = live.items.filter(({ done }) => !done).length;
  at("count").textContent = live.items.length === 0 ? "Nothing yet." : `${left} of ${live.items.length} still to get`;
}

async function send(method, path = "", body) {
  const answer = await fetch(`/lists/${encodeURIComponent(list)}/items${path}`, {
    method,
    headers: { "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
  if (!answer.ok) {
    console.warn(`${method} was refused: ${answer.status}`);
    show();
  }
}

at("add").onsubmit = (event) => {
  event.preventDefault();
  const name = at("name").value.trim();
  if (name) send("POST", "", { name });
  at("name").value = "";
};
