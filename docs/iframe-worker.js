// Search in pages opened from a disk: browsers start no worker there, so a hidden frame does its work.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.documentElement.append(frame)
      const inside = frame.contentWindow
      const answer = (data) => this.dispatchEvent(new MessageEvent("message", { data }))
      inside.postMessage = (data) => setTimeout(() => answer(data))
      inside.importScripts = (...urls) => urls.reduce((done, each) => done.then(() => load(each)), Promise.resolve())
      const load = (source) =>
        new Promise((done, failed) => {
          const script = inside.document.createElement("script")
          script.src = new URL(source, location.href)
          script.onload = done
          script.onerror = failed
          inside.document.documentElement.append(script)
        })
      this.ready = load(url).then(() => inside)
    }
    postMessage(data) {
      this.ready.then((inside) => inside.dispatchEvent(new inside.MessageEvent("message", { data })))
    }
    terminate() {}
  }
}
