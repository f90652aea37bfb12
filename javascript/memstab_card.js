// The card behind a badge: what it says in words, the picture's path against the region, and where the prompt pulled.

(function() {
    const MemStab = globalThis.MemStab = globalThis.MemStab || {};

    const SVG = "http://www.w3.org/2000/svg";
    const GRACE_MS = 250; // a pointer's way from the badge to the card
    const MARGIN = 8;

    const WIDTH = 340;
    const HEIGHT = 190;
    const FRAME = {left: 42, right: 8, top: 8, bottom: 34};
    const MOST_POINTS = 1000;

    /** Signs of the verdicts, which differ in form and not only in colour; strokes in a square of 16. */
    const SIGNS = {
        clear: "M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11z",
        flagged: "M4 14.5V1.5M4 2.5h9l-2.5 3L13 8.5H4",
        suppressed: "M3 13.5V8a3 3 0 0 1 3-3h7M9.5 1.5L13 5L9.5 8.5",
        notMeasured: "M5 5.5a3 3 0 1 1 4.5 2.6C8.4 8.7 8 9.3 8 10.3M8 13.2v.6",
        partial: "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5v11",
        unreadable: "M3.5 3.5l9 9M12.5 3.5l-9 9",
    };

    function element(name, className, text) {
        const made = document.createElement(name);
        if (className) made.className = className;
        if (text !== undefined) made.textContent = text;
        return made;
    }

    function drawn(name, attributes, text) {
        const made = document.createElementNS(SVG, name);
        Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
        if (text !== undefined) made.textContent = text;
        return made;
    }

    /** The sign of a verdict, for eyes only: its name stands beside it. */
    function sign(state) {
        const made = drawn("svg", {viewBox: "0 0 16 16", class: "memstab-sign", "aria-hidden": "true"});
        made.append(drawn("path", {d: SIGNS[state]}));
        return made;
    }

    /** Points of a curve that a logarithmic figure can show. */
    function points({sigma, norm, low, high}) {
        const stride = Math.ceil(sigma.length / MOST_POINTS);
        return sigma
            .map((noise, at) => ({noise, path: norm[at], low: low[at], high: high[at]}))
            .filter(({noise, path}, at) => at % stride === 0 && noise > 0 && path > 0);
    }

    const isOutside = ({path, high}) => high !== null && path > high;

    /** Values of 1, 2 and 5 times a power of ten between two; of 1 only where that is enough. */
    function ticks(from, to) {
        const found = [];
        for (let power = Math.floor(Math.log10(from)); 10 ** power <= to; power++) {
            for (const times of [1, 2, 5]) found.push(times * 10 ** power);
        }
        const inside = found.filter((value) => value >= from && value <= to);
        const whole = inside.filter((value) => Number.isInteger(Math.round(Math.log10(value) * 1e9) / 1e9));
        return whole.length > 2 ? whole : inside;
    }

    /** A pixel's place on a logarithmic axis whose ends are widened a little. */
    function axis(values, start, end) {
        const from = Math.min(...values) / 1.08;
        const to = Math.max(...values) * 1.08;
        const place = (value) => start + (end - start) * (Math.log(value / from) / Math.log(to / from));
        return {from, to, place};
    }

    /** The path of a pass over noise level, which falls to the right, against the region; both axes logarithmic. */
    function curve(trace, words) {
        const shown = points(trace);
        if (!shown.length) return element("p", "", MemStab.words.say("noCurve"));
        const bounds = shown.filter(({high}) => high > 0);
        const x = axis(shown.map(({noise}) => noise), WIDTH - FRAME.right, FRAME.left);
        const floor = Math.min(...shown.map(({path}) => path), ...bounds.map(({high}) => high)) / 3;
        const heights = bounds.flatMap(({low, high}) => [Math.max(low, floor), high]);
        const y = axis([...shown.map(({path}) => path), ...heights], HEIGHT - FRAME.bottom, FRAME.top);
        const at = (noise, value) => `${x.place(noise).toFixed(1)},${y.place(value).toFixed(1)}`;

        const figure = drawn("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "memstab-curve", role: "img"});
        figure.append(drawn("title", {}, words));
        const order = [...bounds].sort((one, other) => other.noise - one.noise);
        if (order.length) {
            const top = order.map(({noise, high}) => at(noise, high));
            const bottom = order.map(({noise, low}) => at(noise, Math.max(low, floor))).reverse();
            figure.append(drawn("polygon", {points: [...top, ...bottom].join(" "), class: "memstab-region"}));
            figure.append(drawn("polyline", {points: top.join(" "), class: "memstab-bound"}));
        }
        for (const value of ticks(x.from, x.to)) {
            const place = x.place(value);
            figure.append(drawn("path", {d: `M${place} ${HEIGHT - FRAME.bottom}v4`, class: "memstab-axis"}));
            const where = {x: place, y: HEIGHT - FRAME.bottom + 15, "text-anchor": "middle"};
            figure.append(drawn("text", where, MemStab.words.shown(value)));
        }
        for (const value of ticks(y.from, y.to)) {
            const place = y.place(value);
            figure.append(drawn("path", {d: `M${FRAME.left} ${place}h-4`, class: "memstab-axis"}));
            const where = {x: FRAME.left - 7, y: place + 3.5, "text-anchor": "end"};
            figure.append(drawn("text", where, MemStab.words.shown(value)));
        }
        const corner = `M${FRAME.left} ${FRAME.top}V${HEIGHT - FRAME.bottom}H${WIDTH - FRAME.right}`;
        figure.append(drawn("path", {d: corner, class: "memstab-axis"}));
        const middle = (FRAME.left + WIDTH - FRAME.right) / 2;
        const lying = {x: middle, y: HEIGHT - 4, "text-anchor": "middle"};
        const upright = `translate(9 ${(FRAME.top + HEIGHT - FRAME.bottom) / 2}) rotate(-90)`;
        figure.append(drawn("text", lying, MemStab.words.say("axisNoise")));
        figure.append(drawn("text", {transform: upright, "text-anchor": "middle"}, MemStab.words.say("axisPath")));

        const way = shown.map(({noise, path}) => at(noise, path)).join(" ");
        figure.append(drawn("polyline", {points: way, class: "memstab-path"}));
        for (const point of shown) {
            const [left, top] = [x.place(point.noise), y.place(point.path)];
            figure.append(isOutside(point)
                ? drawn("path", {d: `M${left - 3.5} ${top - 3.5}l7 7m0 -7l-7 7`, class: "memstab-outside"})
                : drawn("circle", {cx: left, cy: top, r: 2.2, class: "memstab-inside"}));
        }
        return figure;
    }

    /** What the figure's signs mean. */
    function legend() {
        const made = element("p", "memstab-legend");
        const entry = (key, ...parts) => {
            const item = element("span");
            const box = drawn("svg", {viewBox: "0 0 14 10", "aria-hidden": "true"});
            box.append(...parts);
            item.append(box, MemStab.words.say(key));
            made.append(item);
        };
        entry("legendRegion", drawn("rect", {width: 14, height: 10, class: "memstab-region"}));
        entry("legendInside", drawn("circle", {cx: 7, cy: 5, r: 2.2, class: "memstab-inside"}));
        entry("legendOutside", drawn("path", {d: "M3.5 1.5l7 7m0 -7l-7 7", class: "memstab-outside"}));
        return made;
    }

    /** The curves of a report: one, or one for each pass. */
    function curves(report) {
        if (!report.trace) return [];
        const words = MemStab.words;
        const parts = report.passes.length
            ? report.passes.map((one) => [words.say("curvePass", {name: one.name, state: words.label(one)}), one.trace])
            : [[words.say("curve"), report.trace]];
        const figures = parts.map(([heading, trace]) => {
            const figure = element("figure");
            const {sigma, norm, high} = trace;
            const outside = norm.filter((path, at) => isOutside({path, high: high[at]})).length;
            const ends = {first: words.shown(sigma[0] || 0), last: words.shown(sigma[sigma.length - 1] || 0)};
            const told = words.say("curveTold", {count: sigma.length, outside, ...ends});
            figure.append(element("figcaption", "", heading), curve(trace, told));
            return figure;
        });
        return report.passes.length || report.trace.sigma.length ? [...figures, legend()] : [];
    }

    /** A map over a picture: a canvas of the picture's form in the picture's box. */
    function overlay(heat, image) {
        const small = element("canvas");
        [small.width, small.height] = [heat.width, heat.height];
        const pixels = new ImageData(heat.width, heat.height);
        heat.values.forEach((value, at) => pixels.data.set([255, 64, 0, Math.round(200 * value)], 4 * at));
        small.getContext("2d").putImageData(pixels, 0, 0);

        const canvas = element("canvas", "memstab-heat");
        const scale = Math.min(1, 512 / Math.max(image.naturalWidth, image.naturalHeight, 1));
        canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
        canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
        const draw = canvas.getContext("2d");
        draw.imageSmoothingQuality = "high";
        draw.drawImage(small, 0, 0, canvas.width, canvas.height);
        canvas.setAttribute("aria-hidden", "true");
        return canvas;
    }

    /** Lay a map exactly where its picture is. */
    function lay(canvas, image) {
        const look = getComputedStyle(image);
        Object.assign(canvas.style, {
            left: `${image.offsetLeft}px`,
            top: `${image.offsetTop}px`,
            width: `${image.offsetWidth}px`,
            height: `${image.offsetHeight}px`,
            objectFit: look.objectFit,
            objectPosition: look.objectPosition,
        });
    }

    /** The one card that is open, if any, and the badge it belongs to. */
    class Card {
        constructor() {
            this.box = null;
            this.owner = null;
            this.canvas = null;
            this.pinned = false;
            this.timer = 0;
            this.keys = (event) => this.key(event);
            this.presses = (event) => this.press(event);
            this.moves = () => this.place();
        }

        isOpenFor(owner) {
            return this.owner === owner;
        }

        /** Show the card of an owner, who has `button`, `image` and `report`. Pinned, it takes the focus and stays. */
        open(owner, pinned) {
            clearTimeout(this.timer);
            if (this.owner !== owner) {
                this.close(false);
                this.owner = owner;
                this.box = element("div", "memstab-card");
                this.box.setAttribute("role", "dialog");
                this.box.tabIndex = -1;
                this.box.addEventListener("pointerenter", () => clearTimeout(this.timer));
                this.box.addEventListener("pointerleave", () => this.leave());
                this.fill();
                document.body.append(this.box);
                owner.button.setAttribute("aria-expanded", "true");
                // On the window, to come before the WebUI, where Escape stops a generation or closes the lightbox.
                window.addEventListener("keydown", this.keys, true);
                document.addEventListener("pointerdown", this.presses, true);
                window.addEventListener("scroll", this.moves, true);
                window.addEventListener("resize", this.moves);
                this.place();
            }
            if (pinned) {
                this.pinned = true;
                this.box.focus({preventScroll: true});
            }
        }

        /** What the card says; anew when the badge's picture has changed. */
        fill() {
            const words = MemStab.words;
            const {report} = this.owner;
            const title = words.say("title", {state: words.label(report, true)});
            this.hide();
            this.box.dataset.state = words.state(report);
            this.box.setAttribute("aria-label", title);

            const head = element("div", "memstab-head");
            const close = element("button", "memstab-close", "×");
            close.type = "button";
            close.setAttribute("aria-label", words.say("close"));
            close.addEventListener("click", () => this.close(true));
            head.append(sign(words.state(report)), element("strong", "", title), close);

            const list = element("dl");
            for (const {key, name, text} of words.facts(report)) {
                const value = element("dd", "", text);
                value.dataset.fact = key;
                list.append(element("dt", "", name), value);
            }
            const told = words.meaning(report).map((sentence) => element("p", "memstab-meaning", sentence));
            this.box.replaceChildren(head, ...told, ...(report.heat ? [this.toggle()] : []));
            this.box.append(...(report.error ? [] : curves(report)), list);
        }

        /** The button that lays the map over the picture. */
        toggle() {
            const words = MemStab.words;
            const area = element("div", "memstab-where");
            const button = element("button", "", words.say("showWhere"));
            button.type = "button";
            button.setAttribute("aria-pressed", "false");
            button.addEventListener("click", () => {
                if (this.canvas) this.hide();
                else this.show();
                button.setAttribute("aria-pressed", String(this.canvas !== null));
                button.textContent = words.say(this.canvas ? "hideWhere" : "showWhere");
                this.place();
            });
            area.append(button, element("span", "", words.say("whereMeans")));
            return area;
        }

        show() {
            const {report, image} = this.owner;
            this.canvas = overlay(report.heat, image);
            image.after(this.canvas);
            this.pinned = true;
        }

        hide() {
            this.canvas?.remove();
            this.canvas = null;
        }

        /** At the badge and inside the window; out of the way of a picture with its map, where there is room. */
        place() {
            if (!this.box) return;
            this.box.style.maxHeight = "";
            const badge = this.owner.button.getBoundingClientRect();
            const {offsetWidth: width, offsetHeight: height} = this.box;
            const [right, bottom] = [document.documentElement.clientWidth, window.innerHeight];
            const below = badge.bottom + MARGIN + height <= bottom || badge.top < bottom - badge.bottom;
            let top = below ? badge.bottom + MARGIN / 2 : badge.top - height - MARGIN / 2;
            const inside = (value, size, most) => Math.max(MARGIN, Math.min(value, most - size - MARGIN));
            let left = badge.left;
            if (this.canvas) {
                const picture = this.owner.image.getBoundingClientRect();
                if (picture.left >= width + 2 * MARGIN) {
                    left = picture.left - width - MARGIN;
                } else if (right - picture.right >= width + 2 * MARGIN) {
                    left = picture.right + MARGIN;
                } else {
                    // On a telephone below the picture, if need be over its lower part.
                    const room = Math.min(height, Math.max(bottom - picture.bottom - 2 * MARGIN, bottom / 3));
                    this.box.style.maxHeight = `${room}px`;
                    top = bottom - room - MARGIN;
                }
                lay(this.canvas, this.owner.image);
            }
            this.box.style.left = `${inside(left, width, right)}px`;
            this.box.style.top = `${inside(top, this.box.offsetHeight, bottom)}px`;
        }

        /** The pointer has gone: a card that was not asked for goes too, unless the pointer comes to it. */
        leave() {
            if (this.pinned) return;
            clearTimeout(this.timer);
            this.timer = setTimeout(() => this.close(false), GRACE_MS);
        }

        key(event) {
            // Its own message to the lightbox comes by here, too.
            if (!event.isTrusted) return;
            const inside = this.box.contains(document.activeElement);
            if (event.key === "Escape") {
                event.preventDefault();
                event.stopImmediatePropagation();
                this.close(inside || document.activeElement === this.owner.button);
            } else if (event.key === "Tab" && inside) {
                // The card stands at the end of the page, but belongs behind its badge.
                const stops = [...this.box.querySelectorAll("button")];
                const leaves = event.shiftKey
                    ? [this.box, stops[0]].includes(document.activeElement)
                    : document.activeElement === stops[stops.length - 1];
                if (!leaves) return;
                event.preventDefault();
                this.close(true);
            } else if (inside && /^Arrow(Left|Right)$/.test(event.key)) {
                // The lightbox goes on to its next picture, and the card with it.
                const lightbox = this.owner.button.closest("#lightboxModal");
                if (!lightbox) return;
                event.preventDefault();
                lightbox.dispatchEvent(new KeyboardEvent("keydown", {key: event.key}));
            }
        }

        press(event) {
            const path = event.composedPath();
            if (!path.includes(this.box) && !path.includes(this.owner.button)) this.close(false);
        }

        /** The picture of the badge has changed: the card follows, or goes with the badge. */
        follow(owner) {
            if (this.owner !== owner) return;
            if (!owner.report) {
                this.close(false);
                return;
            }
            this.fill();
            this.place();
        }

        close(back) {
            clearTimeout(this.timer);
            if (!this.box) return;
            const {button} = this.owner;
            this.hide();
            this.box.remove();
            this.box = this.owner = null;
            this.pinned = false;
            window.removeEventListener("keydown", this.keys, true);
            document.removeEventListener("pointerdown", this.presses, true);
            window.removeEventListener("scroll", this.moves, true);
            window.removeEventListener("resize", this.moves);
            button.setAttribute("aria-expanded", "false");
            if (!back) return;
            button.dataset.quiet = "yes";
            button.focus();
            delete button.dataset.quiet;
        }
    }

    MemStab.card = {Card, sign, ticks};
})();
