"use strict";
// Signing in goes on by itself; a ruling never does.
for (const form of document.querySelectorAll("form[data-go]")) form.submit();

// What waits is shown as it changes. Only the part that shows it is replaced: what somebody is writing stays.
const live = document.querySelector("[data-live]");
if (live) {
  const look = async () => {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const part = fresh.querySelector("[data-live]");
    if (!part) { location.reload(); return; }
    live.replaceChildren(...part.childNodes);
    document.title = fresh.title;
    if (!fresh.querySelector(".rule")) document.querySelector(".rule")?.remove();
  };
  const events = new EventSource("/events");
  events.onmessage = () => look().catch(() => {});
}
