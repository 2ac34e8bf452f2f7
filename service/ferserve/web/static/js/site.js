/** Milliseconds that the service worker may take before the page goes on without it. */
const PATIENCE = 5000;

/**
 * Has the site's service worker take over before anything large is loaded: then each file comes over
 * the network once, and the page is there again without one.
 *
 * On the first visit the page loads itself anew from the service worker, whose headers let it have
 * threads; most web servers for plain files send none. So does it where a new version has come.
 */
export async function settle() {
  const workers = navigator.serviceWorker;
  const update = workers?.controller && (await workers.getRegistration())?.waiting;
  if (!workers || (workers.controller && !update)) return;
  const taken = new Promise((resolve) => {
    workers.addEventListener("controllerchange", () => resolve(true), { once: true });
    workers.addEventListener("message", () => resolve(false), { once: true }); // other pages are open
    workers.startMessages();
    setTimeout(() => resolve(false), PATIENCE);
  });
  if (update) update.postMessage("take over");
  else await workers.register("sw.js").catch(() => {}); // refused, say in a private window
  if (!(await taken) || (crossOriginIsolated && !update)) return;
  location.reload();
  await new Promise(() => {});
}
