// Calls of MemStab's scripts from Python: a JSON list of [function, argument] comes in, a list of answers goes out.

import {createReadStream, readdirSync, readFileSync} from "node:fs";
import {Readable} from "node:stream";
import vm from "node:vm";

const scripts = new URL("../../javascript/", import.meta.url);
globalThis.onUiLoaded = () => {};
globalThis.onUiTabChange = () => {};
for (const name of readdirSync(scripts).sort()) {
    vm.runInThisContext(readFileSync(new URL(name, scripts), "utf-8"), {filename: name});
}
const {files, words, card, gallery} = globalThis.MemStab;

/** A file as the browser has it, in pieces of odd lengths. */
async function texts({path, piece}) {
    let taken = 0;
    const stream = Readable.toWeb(createReadStream(path, {highWaterMark: piece}), {strategy: {highWaterMark: 1}});
    const counted = stream.pipeThrough(new TransformStream({
        transform(bytes, out) {
            taken += bytes.length;
            out.enqueue(new Uint8Array(bytes));
        },
    }, {highWaterMark: 1}, {highWaterMark: 0}));
    const found = await files.read(counted);
    return {found, taken};
}

const plain = (value) => (value instanceof Error ? {error: value.message} : value);
const calls = {
    async read(argument) {
        const {found, taken} = await texts(argument);
        return {badge: plain(found.badge) ?? null, infotext: plain(found.infotext) ?? null, taken};
    },
    async told(argument) {
        const report = words.report((await texts(argument)).found);
        if (!report) return null;
        return {
            report,
            state: words.state(report),
            label: words.label(report),
            long: words.label(report, true),
            meaning: words.meaning(report),
            facts: Object.fromEntries(words.facts(report).map(({key, text}) => [key, text])),
        };
    },
    texts: () => words.TEXTS,
    ticks: ([from, to]) => card.ticks(from, to),
    /** What happens to a library of which reads are asked for and let go. */
    async library({addresses, let_go: letGo}) {
        const [fetched, aborted, reported] = [[], [], []];
        globalThis.fetch = (address, {signal}) => {
            fetched.push(address);
            return new Promise((resolve, reject) => {
                signal.addEventListener("abort", () => {
                    aborted.push(address);
                    reject(new DOMException("aborted", "AbortError"));
                });
                if (!letGo.includes(address)) setTimeout(() => resolve({ok: false}), 5);
            });
        };
        const library = new gallery.Library();
        addresses.forEach((address) => {
            const release = library.ask(address, (report) => reported.push([address, report]));
            if (letGo.includes(address)) release();
        });
        await new Promise((resolve) => setTimeout(resolve, 100));
        return {fetched, reported, kept: [...library.entries.keys()]};
    },
    translated({localization, report}) {
        globalThis.localization = localization;
        globalThis.getTranslation = (text) => localization[text];
        try {
            return {label: words.label(report), meaning: words.meaning(report)};
        } finally {
            delete globalThis.getTranslation;
            delete globalThis.localization;
        }
    },
};

const answers = [];
for (const [name, argument] of JSON.parse(readFileSync(0, "utf-8"))) answers.push(await calls[name](argument));
process.stdout.write(JSON.stringify(answers));
