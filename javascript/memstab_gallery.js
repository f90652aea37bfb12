// Puts a badge on every picture that has one in its file: in galleries, in the lightbox, and in fields for pictures.

(function() {
    const MemStab = globalThis.MemStab = globalThis.MemStab || {};

    const MAX_KEPT = 500; // reports, by address
    const AT_ONCE = 2; // files; the page needs its connections
    const HOVER_MS = 200;

    const GRID = ".grid-wrap:not(.preview ~ .grid-wrap)"; // it goes on existing behind an open picture

    // Fields that a picture is put into: PNG Info, img2img, inpaint upload and extras. Others draw on a canvas.
    const GIVEN = "#pnginfo_image, #img2img_image, #img_inpaint_base, #extras_image";

    /** Where pictures are shown: where to look, the pictures in there, and where on them the badge stands. */
    const PLACES = [
        {root: ".gradio-gallery", images: ".preview > img", look: "picture"},
        {root: ".gradio-gallery", images: ".thumbnails > .thumbnail-item > img", look: "below"},
        {root: ".gradio-gallery", images: `${GRID} .grid-container > .thumbnail-item > img`, look: "corner"},
        {root: GIVEN, images: "img", look: "foot"},
        {root: "#lightboxModal", images: "#modalImage", look: "lightbox"},
    ];

    /** Whether the user wants badges here: a switch of the Settings page. */
    function wanted() {
        return typeof opts === "undefined" || opts.memstab_gallery !== false;
    }

    /** Reports of files by address, read when they are first asked for, a few at a time. */
    class Library {
        constructor() {
            this.entries = new Map();
            this.waiting = [];
            this.busy = 0;
        }

        /** Call back with the report of a file, or null, unless it is let go before; gives back how to let go. */
        ask(address, callback) {
            const fresh = {address, callbacks: new Set(), controller: null, report: undefined};
            const entry = this.entries.get(address) || fresh;
            this.entries.delete(address);
            this.entries.set(address, entry);
            if (entry.report !== undefined) {
                callback(entry.report);
                return () => {};
            }
            entry.callbacks.add(callback);
            if (entry.callbacks.size === 1) {
                this.waiting.push(entry);
                this.work();
            }
            return () => {
                entry.callbacks.delete(callback);
                if (entry.callbacks.size || entry.report !== undefined) return;
                entry.controller?.abort();
                this.waiting = this.waiting.filter((one) => one !== entry);
                if (this.entries.get(address) === entry) this.entries.delete(address);
            };
        }

        work() {
            while (this.busy < AT_ONCE && this.waiting.length) this.read(this.waiting.shift());
        }

        async read(entry) {
            this.busy++;
            entry.controller = new AbortController();
            try {
                entry.report = await reportOf(entry.address, entry.controller.signal);
            } catch (error) {
                // A file that is gone or a connection that broke: there is nothing to show, and it may be back later.
                if (error.name !== "AbortError") console.debug("MemStab: a picture was not read:", error.message);
                if (this.entries.get(entry.address) === entry) this.entries.delete(entry.address);
            } finally {
                entry.controller.abort();
                this.busy--;
            }
            const callbacks = [...entry.callbacks];
            entry.callbacks.clear();
            callbacks.forEach((callback) => callback(entry.report || null));
            this.forget();
            this.work();
        }

        /** Let the oldest go. Addresses that are the files themselves are long, and quickly read again. */
        forget() {
            for (const [address, entry] of this.entries) {
                if (entry.report === undefined) continue;
                if (address.startsWith("data:") || this.entries.size > MAX_KEPT) this.entries.delete(address);
            }
        }
    }

    async function reportOf(address, signal) {
        const answer = await fetch(address, {signal, cache: "force-cache", priority: "low"});
        if (!answer.ok || !answer.body) return null;
        return MemStab.words.report(await MemStab.files.read(answer.body));
    }

    /** Whether a picture is this page's own: another site's is none of ours. */
    function isOwn(address) {
        return /^(data:image\/|blob:)/.test(address) || new URL(address, location.href).origin === location.origin;
    }

    /** A picture on the page, and the badge on it once there is one. */
    class Slot {
        constructor(image, look, library, card) {
            Object.assign(this, {image, look, library, card});
            this.address = "";
            this.report = null;
            this.button = null;
            this.letGo = () => {};
        }

        /** Follow the picture to another file. */
        update() {
            const address = this.image.getAttribute("src") || "";
            if (address !== this.address) {
                this.letGo();
                this.letGo = () => {};
                this.address = address;
                const wanted = address && isOwn(address);
                // The old badge is not the new picture's; but an open card waits for what it goes on with.
                if (!wanted || !this.card.isOpenFor(this)) this.show(null);
                if (wanted) this.letGo = this.library.ask(address, (report) => this.show(report));
            }
            this.place();
        }

        show(report) {
            this.report = report;
            if (report) {
                this.button = this.button || this.made();
                this.label();
                this.place();
            }
            this.card.follow(this);
            if (!report) this.remove();
        }

        remove() {
            const row = this.button?.parentElement;
            this.button?.remove();
            this.button = null;
            if (row && !row.querySelector(".memstab-badge")) row.classList.remove("memstab-badged");
        }

        label() {
            const words = MemStab.words;
            const state = words.state(this.report);
            const long = words.label(this.report, true);
            const text = document.createElement("span");
            text.textContent = this.look === "below" || this.look === "corner" ? words.label(this.report) : long;
            this.button.dataset.state = state;
            this.button.setAttribute("aria-label", words.say("badgeLabel", {state: long}));
            this.button.replaceChildren(MemStab.card.sign(state), text);
        }

        made() {
            const button = document.createElement("button");
            button.type = "button";
            button.className = "memstab-badge";
            button.dataset.look = this.look;
            button.setAttribute("aria-haspopup", "dialog");
            button.setAttribute("aria-expanded", "false");
            let timer = 0;
            button.addEventListener("click", (event) => {
                // It is the badge's, not the lightbox's or the gallery's.
                event.stopPropagation();
                event.preventDefault();
                clearTimeout(timer);
                this.card.open(this, true);
            });
            button.addEventListener("pointerenter", (event) => {
                if (event.pointerType !== "mouse") return;
                clearTimeout(timer);
                timer = setTimeout(() => button.isConnected && this.card.open(this, false), HOVER_MS);
            });
            button.addEventListener("pointerleave", () => {
                clearTimeout(timer);
                if (this.card.isOpenFor(this)) this.card.leave();
            });
            button.addEventListener("focus", () => {
                if (!button.dataset.quiet && button.matches(":focus-visible")) this.card.open(this, false);
            });
            button.addEventListener("blur", () => {
                if (this.card.isOpenFor(this)) this.card.leave();
            });
            return button;
        }

        /** Beside the picture, not in it: a thumbnail is a button itself, and one button in another is none. */
        place() {
            if (!this.button) return;
            const small = this.look === "below" || this.look === "corner";
            const neighbour = small ? this.image.parentElement : this.image;
            if (this.look === "below") neighbour.parentElement.classList.add("memstab-badged");
            if (neighbour.nextElementSibling !== this.button && !this.button.contains(document.activeElement)) {
                neighbour.after(this.button);
            }
            if (!small) return;
            const below = this.look === "below";
            this.button.style.left = `${neighbour.offsetLeft + (below ? neighbour.offsetWidth / 2 : 4)}px`;
            this.button.style.top = `${neighbour.offsetTop + (below ? neighbour.offsetHeight - 1 : 4)}px`;
        }

        end() {
            this.letGo();
            this.report = null;
            this.card.follow(this);
            this.remove();
        }
    }

    /** Keeps a slot for each picture that is shown. */
    class Gallery {
        constructor() {
            this.library = new Library();
            this.card = new MemStab.card.Card();
            this.slots = new Map();
            this.watched = new WeakSet();
            // That a picture changes its file, or the lightbox opens, the WebUI does not tell: no element is added.
            this.changes = new MutationObserver(() => this.look());
            this.sizes = new ResizeObserver(() => this.slots.forEach((slot) => slot.place()));
        }

        watch(root) {
            if (this.watched.has(root)) return;
            this.watched.add(root);
            const attributeFilter = root.id === "lightboxModal" ? ["src", "style"] : ["src"];
            // Nor is a field's picture to keep the badge of the one before until the WebUI tells of it.
            const childList = root.matches(GIVEN);
            this.changes.observe(root, {subtree: true, childList, attributes: true, attributeFilter});
            this.sizes.observe(root);
        }

        /** Find the pictures that are shown, and let go of those that are not any more. */
        look() {
            const shown = new Set();
            for (const {root: selector, images, look} of wanted() ? PLACES : []) {
                for (const root of document.querySelectorAll(selector)) {
                    this.watch(root);
                    if (!root.getClientRects().length) continue;
                    for (const image of root.querySelectorAll(images)) {
                        shown.add(image);
                        if (this.slots.has(image)) continue;
                        this.slots.set(image, new Slot(image, look, this.library, this.card));
                    }
                }
            }
            for (const [image, slot] of this.slots) {
                if (shown.has(image)) {
                    slot.update();
                } else {
                    slot.end();
                    this.slots.delete(image);
                }
            }
        }
    }

    MemStab.gallery = {Library, Slot, Gallery};

    onUiLoaded(() => {
        const gallery = new Gallery();
        MemStab.words.announce();
        onAfterUiUpdate(() => gallery.look());
        onUiTabChange(() => gallery.look());
    });
})();
