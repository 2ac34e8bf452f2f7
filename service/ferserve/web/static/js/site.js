/** Milliseconds that the service worker may take before the page goes on without it. */
const PATIENCE = 5000;

/**
 * Has the site's service worker take over before anything large is loaded: then each file comes over
 * the network once, and the page is there again without one.
 *
 * On the first visit the page loads itself anew from the service worker, whose headers let it have
 * threads; most web servers for plain files send none.
 */
export async function settle() {
  const workers = navigator.serviceWorker;
  if (!workers || workers.controller) return;
  const taken = new Promise((resolve) => {
    workers.addEventListener("controllerchange", () => resolve(true), { once: true });
    setTimeout(() => resolve(false), PATIENCE);
  });
  await workers.register("sw.js").catch(() => {}); // refused, say in a private window
  if (!(await taken) || crossOriginIsolated) return;
  location.reload();
  await new Promise(() => {});
}
