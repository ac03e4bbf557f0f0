// Has the service worker keep the page's files, so that it works without a network from the second visit on.

// For a browser that does not start it.
const PATIENCE = 3000;

/** Resolves once the service worker of this build keeps what the page loads, or cannot. */
export async function installed() {
  const { serviceWorker } = navigator;
  if (!serviceWorker) return;
  const controlled = new Promise((resolve) => {
    serviceWorker.addEventListener("controllerchange", resolve, { once: true });
  });
  try {
    const registration = await serviceWorker.register("service.js");
    // Another build may have other networks. Without a network it rejects.
    await registration.update().catch(() => {});
    if (serviceWorker.controller && !registration.installing && !registration.waiting) return;
  } catch (error) {
    console.debug(`the page needs a network: ${error.message}`);
    return;
  }
  await Promise.race([controlled, new Promise((resolve) => setTimeout(resolve, PATIENCE))]);
}
