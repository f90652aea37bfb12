// A badge in words: the table of everything that is said, the report out of a file's texts, and sentences about it.

(function() {
    const MemStab = globalThis.MemStab = globalThis.MemStab || {};

    /** All that is shown. A localization of the WebUI translates by the English text; {names} stay as they are. */
    const TEXTS = {
        clear: "clear",
        flagged: "flagged",
        suppressed: "suppressed",
        notMeasured: "not measured",
        partial: "partial",
        unreadable: "unreadable",
        stoppedAt: "{state}, partial: {done} of {planned} steps",
        badgeLabel: "MemStab badge: {state}",
        title: "MemStab: {state}",
        close: "Close",

        stopped: "Stopped after {done} of {planned} steps; nothing is known about the rest.",
        clearMeans: "No replay of a training picture was found.",
        clearNot: "That is no proof that the picture is new: “not flagged” is never “original”.",
        flaggedMeans: "Looks like the replay of a training picture. It was left as it is.",
        endedMeans: "Looks like the replay of a training picture. Its sampling was ended there.",
        suppressedMeans: "Looked like the replay of a training picture. MemStab steered it away.",
        lookDecided: "The score alone was not enough: the prompt gives an unusually similar picture from other noise.",
        lookSpared: "The score alone would have been enough, but the prompt gives another picture from other noise.",
        foundNot: "It can be a false alarm. MemStab does not know the training data, nor anyone's rights.",
        notMeasuredMeans: "Not measured, so nothing is known about this picture.",
        unreadableMeans: "This picture has a badge of MemStab that cannot be read, so nothing is known about it.",
        tooLong: "It is longer than a badge can be.",
        damaged: "It is damaged.",
        newer: "It was written by a newer MemStab: update MemStab.",
        lineOnly: "Only a line of the badge is in this file. The curve is in the PNG file of a picture.",

        rareShare: "{share} of ordinary pictures score as high",
        rareOne: "about 1 ordinary picture in {count} scores as high",
        rareBeyond: "fewer than 1 ordinary picture in {count} scores as high",
        lessCertain: "less certain, as the profile is for other settings",

        factReason: "Reason",
        factScore: "Score",
        factRarity: "How rare",
        factLook: "Second look",
        factSteps: "Steps",
        factFirst: "First step outside",
        factAttempts: "Seeds given up",
        factMode: "Mode",
        factSensitivity: "False alarms",
        factStrength: "Strength",
        factProfile: "Profile",
        factVersion: "Written by",
        lookLikeness: "likeness {likeness} to the same prompt's picture from other noise",
        lookBound: "lowest bound of the score: {bound}",
        stepCounts: "{measured} measured, {outside} outside, {suppressed} suppressed",
        extraSteps: "{count} extra evaluations",
        suppress: "suppress",
        detect: "detect",
        stop: "stop",
        retry: "retry",
        sensitivity: "about 1 in {count} ordinary pictures",
        exact: "calibrated for this",
        transfer: "for other settings",
        none: "does not apply",
        author: "MemStab {version}, {host}",
        version: "MemStab {version}",

        curve: "Path of the picture",
        curvePass: "Path of the pass “{name}”: {state}",
        curveTold: "{count} points from noise level {first} to {last}, {outside} of them outside the region",
        noCurve: "Nothing was measured, so there is no curve.",
        legendRegion: "region of ordinary pictures",
        legendInside: "inside",
        legendOutside: "outside",
        axisNoise: "noise level",
        axisPath: "path length",

        showWhere: "Show where",
        hideWhere: "Hide where",
        whereMeans: "Coloured: where the prompt pulled when it was flagged.",
    };

    const SCHEMA = 1;
    const NAMES = {clear: "clear", flagged: "flagged", suppressed: "suppressed", "not measured": "notMeasured"};
    const VERDICTS = Object.keys(NAMES);
    const MODES = ["suppress", "detect", "stop", "retry"];
    const MATCHES = ["exact", "transfer", "none"];
    const MAX_LINE = 2000;
    const MAX_INFOTEXT = 1 << 16;
    const MAX_ITEMS = 50000;
    const MAX_NUMBER = 1e300;
    const HEAT_SIDE = 16;
    const SMALLEST_P = 1e-4;

    const NUMBER = "[0-9]+(?:\\.[0-9]+)?(?:e[+-]?[0-9]+)?";
    const SETTINGS = new RegExp(
        `^(${MODES.join("|")}) (${NUMBER}) strength (${NUMBER})(?: retries [0-9]{1,4})?(?: profile (.{1,80}))?$`,
    );
    const VERDICT = new RegExp(
        `^(${VERDICTS.join("|")})(?: p([=<])(${NUMBER}))?(?: score (-?${NUMBER}))?(?: from step ([0-9]{1,9}))?` +
        `(?: alike (-?${NUMBER}))?` +
        "( transfer)?(?: partial ([0-9]{1,9}) of ([0-9]{1,9}))?(?: - (.*))?$",
    );

    /** A text of the table in the WebUI's language, with {names} filled in. */
    function say(key, values = {}) {
        const english = TEXTS[key];
        const translated = typeof getTranslation === "function" && globalThis.localization && getTranslation(english);
        const filled = (all, name) => (name in values ? String(values[name]) : all);
        return (translated || english).replace(/\{(\w+)\}/g, filled);
    }

    /** Tell the WebUI all texts, so that its template for localizations has them. */
    function announce() {
        Object.keys(TEXTS).forEach((key) => say(key));
    }

    // Readers of plain data: each gives back what it knows, or throws.

    function fail(name) {
        throw new MemStab.files.FileError(name || "damaged");
    }

    const check = (test) => (value) => (test(value) ? value : fail());
    const orNull = (read) => (value) => (value === null ? null : read(value));
    const line = check((value) => typeof value === "string" && value.length <= MAX_LINE);
    const number = check((value) => typeof value === "number" && Math.abs(value) <= MAX_NUMBER);
    const count = check((value) => Number.isInteger(value) && value >= 0);
    const oneOf = (names) => check((value) => names.includes(value));
    const share = check((value) => typeof value === "number" && value >= 0 && value <= 1);
    const correlation = check((value) => typeof value === "number" && Math.abs(value) <= 1);
    const list = (read, longest = MAX_ITEMS) => (value) => (
        Array.isArray(value) && value.length <= longest ? value.map((one) => read(one)) : fail()
    );

    /** Fields by their readers; one that was added later may be missing and has a default. Others are left out. */
    const record = (readers, added = {}) => (value) => {
        if (typeof value !== "object" || value === null || Array.isArray(value)) fail();
        const has = (name) => Object.prototype.hasOwnProperty.call(value, name);
        return Object.fromEntries(Object.entries(readers).map(([name, read]) => {
            if (has(name)) return [name, read(value[name])];
            return name in added ? [name, added[name]] : fail();
        }));
    };

    const profile = orNull(record(
        {name: line, sha256: check((value) => /^[0-9a-f]{64}$/.test(value)), match: oneOf(MATCHES), reason: line},
        {reason: ""},
    ));
    const steps = record({measured: count, outside: count, suppressed: count, first_outside: orNull(count)});
    const values = list(orNull(number));
    const curve = record({sigma: values, norm: values, low: values, high: values});

    function trace(value) {
        const read = curve(value);
        return new Set(Object.values(read).map((one) => one.length)).size === 1 ? read : fail();
    }

    /** A map of where; what is none is left out, as the rest of the badge stands without it. */
    function heat(value) {
        try {
            const read = orNull(record({height: count, width: count, values: list(share, HEAT_SIDE ** 2)}))(value);
            if (!read) return null;
            const fits = Math.max(read.height, read.width) <= HEAT_SIDE && read.values.length > 0;
            return fits && read.height * read.width === read.values.length ? read : null;
        } catch (error) {
            if (error instanceof MemStab.files.FileError) return null;
            throw error;
        }
    }

    const judged = {
        verdict: oneOf(VERDICTS), reason: line, score: orNull(number), p_value: orNull(share), profile, steps, trace,
    };
    const badge = record(
        {
            ...judged,
            partial: orNull((value) => (Array.isArray(value) && value.length === 2 ? value.map(count) : fail())),
            sensitivity: check((value) => number(value) > 1),
            mode: oneOf(MODES),
            passes: list(record({name: line, ...judged}), 100),
            host: line,
            version: line,
            extra_evaluations: count,
            strength: check((value) => number(value) >= 0),
            rule: line,
            heat,
            attempts: list(record({seed: count, score: orNull(number), first_outside: orNull(count)}), 1000),
            second_look: orNull(record({likeness: correlation, bound: number})),
        },
        {extra_evaluations: 0, strength: 1, rule: "", heat: null, attempts: [], second_look: null},
    );

    /** The report in a badge's JSON; FileError where it is none. */
    function fromBadge(text) {
        if (text.length > MemStab.files.MAX_TEXT) fail("tooLong");
        let content;
        try {
            content = JSON.parse(text);
        } catch (error) {
            fail();
        }
        if (Number.isInteger(content?.schema) && content.schema > SCHEMA) fail("newer");
        if (content?.schema !== SCHEMA) fail();
        return badge(content);
    }

    /** Entries of an infotext's last line, by key. What is in quotation marks is one value. */
    function entries(infotext) {
        const last = infotext.trimEnd().split("\n").pop().slice(0, MAX_INFOTEXT);
        const parts = last.match(/(?:[^",]|"(?:[^"\\]|\\[^])*(?:"|$))+/g) || [];
        return new Map(parts.filter((part) => part.includes(":")).map((part) => {
            const colon = part.indexOf(":");
            return [part.slice(0, colon).trim(), part.slice(colon + 1).trim()];
        }));
    }

    /** The little that an infotext says of one picture, as a report without a curve; null where it says nothing. */
    function fromInfotext(infotext) {
        const said = entries(infotext);
        const found = VERDICT.exec(said.get("MemStab verdict") || "");
        if (!found) return null;
        const [, verdict, sign, p, score, first, alike, transfer, done, planned, reason] = found;
        const [, mode, sensitivity, strength, name] = SETTINGS.exec(said.get("MemStab") || "") || [];
        const numeric = (text) => (text === undefined ? null : Number(text));
        const value = numeric(p);
        const likeness = numeric(alike);
        if (value > 1 || Math.abs(likeness) > 1) return null;
        const match = transfer ? "transfer" : verdict === "not measured" ? null : "exact";
        return {
            verdict,
            reason: reason || "",
            partial: done === undefined ? null : [Number(done), Number(planned)],
            score: numeric(score),
            p_value: sign === "<" ? value / 2 : value,
            sensitivity: numeric(sensitivity),
            mode: mode || null,
            strength: numeric(strength),
            profile: name || transfer ? {name: name || "", sha256: "", match, reason: ""} : null,
            steps: {measured: null, outside: null, suppressed: null, first_outside: numeric(first)},
            trace: null,
            passes: [],
            host: "",
            version: "",
            extra_evaluations: 0,
            rule: "",
            heat: null,
            attempts: [],
            second_look: likeness === null ? null : {likeness, bound: null},
        };
    }

    /** The report of a file's texts; null without a badge, and one with `error` where the badge cannot be read. */
    function report({badge: text, infotext}) {
        try {
            if (text instanceof Error) throw text;
            if (text !== undefined) return fromBadge(text);
        } catch (error) {
            if (!(error instanceof MemStab.files.FileError)) throw error;
            return {error: error.message in TEXTS ? error.message : "damaged"};
        }
        return typeof infotext === "string" ? fromInfotext(infotext) : null;
    }

    /** Which of the badge's looks a report has: a clear picture that was stopped is only partly clear. */
    function state(one) {
        if (one.error) return "unreadable";
        if (one.verdict === "clear" && one.partial) return "partial";
        return NAMES[one.verdict];
    }

    /** The badge's own words: one or two of them, or with how far a stopped picture came. */
    function label(one, long = false) {
        const short = say(state(one));
        if (!long || !one.partial) return short;
        return say("stoppedAt", {state: say(NAMES[one.verdict]), done: one.partial[0], planned: one.partial[1]});
    }

    /** What a second look did to the verdict, if anything, which only the whole badge tells. */
    function lookMeans(one) {
        const bound = one.second_look?.bound ?? null;
        if (bound === null || one.score === null || one.p_value === null) return [];
        const rare = one.p_value <= 1 / one.sensitivity;
        if (one.verdict === "clear") return rare ? [say("lookSpared")] : [];
        return bound <= one.score && !rare ? [say("lookDecided")] : [];
    }

    /** What the verdict means, and what it does not, in sentences. */
    function meaning(one) {
        if (one.error) return [say("unreadableMeans"), say(one.error)];
        const key = NAMES[one.verdict];
        const ended = key === "flagged" && one.mode === "stop" && one.partial;
        const sentences = [say(ended ? "endedMeans" : `${key}Means`)];
        if (one.partial) sentences.push(say("stopped", {done: one.partial[0], planned: one.partial[1]}));
        if (key === "clear") sentences.push(...lookMeans(one), say("clearNot"));
        if (key === "flagged" || key === "suppressed") sentences.push(...lookMeans(one), say("foundNot"));
        if (!one.trace) sentences.push(say("lineOnly"));
        return sentences;
    }

    /** A number in the reader's own writing. */
    function shown(value, digits = 3) {
        return value.toLocaleString(globalThis.navigator?.language, {maximumSignificantDigits: digits});
    }

    /** How rare a score is among ordinary pictures; empty without one. */
    function rarity(one) {
        if (one.error || one.p_value === null || one.verdict === "not measured") return "";
        let told;
        if (one.p_value >= 0.01) {
            const percent = {style: "percent", maximumFractionDigits: 0};
            told = say("rareShare", {share: one.p_value.toLocaleString(globalThis.navigator?.language, percent)});
        } else if (one.p_value >= SMALLEST_P) {
            told = say("rareOne", {count: shown(Math.round(1 / one.p_value), 21)});
        } else {
            told = say("rareBeyond", {count: shown(1 / SMALLEST_P, 21)});
        }
        return one.profile?.match === "transfer" ? `${told}; ${say("lessCertain")}` : told;
    }

    /** What else the badge says: names and values, in the card's order. */
    function facts(one) {
        if (one.error) return [];
        const told = [];
        const add = (key, ...parts) => {
            const text = parts.filter(Boolean).join("; ");
            if (text) told.push({key, name: say(key), text});
        };
        const counts = one.steps.measured === null ? null : one.steps;
        add("factReason", one.reason);
        add("factScore", one.score === null ? "" : shown(one.score));
        add("factRarity", rarity(one));
        const {likeness, bound = null} = one.second_look || {};
        add(
            "factLook",
            one.second_look && say("lookLikeness", {likeness: shown(likeness, 2)}),
            bound !== null && say("lookBound", {bound: shown(bound)}),
        );
        add(
            "factSteps",
            counts && say("stepCounts", counts),
            one.extra_evaluations > 0 && say("extraSteps", {count: one.extra_evaluations}),
        );
        add("factFirst", one.steps.first_outside && String(one.steps.first_outside));
        add("factAttempts", one.attempts.map((attempt) => attempt.seed).join(", "));
        add("factMode", one.mode && say(one.mode));
        add("factSensitivity", one.sensitivity && say("sensitivity", {count: shown(one.sensitivity, 6)}));
        add("factStrength", one.strength !== null && shown(one.strength));
        const {name, match, reason} = one.profile || {};
        add("factProfile", name, match && say(match), reason);
        add("factVersion", one.version && say(one.host ? "author" : "version", one));
        return told;
    }

    MemStab.words = {TEXTS, announce, facts, label, meaning, report, say, shown, state};
})();
