// Reads what a picture file says of itself: a PNG's text chunks, the infotext of a JPEG, WebP or AVIF. Trusts nothing in it.

(function() {
    const MemStab = globalThis.MemStab = globalThis.MemStab || {};

    const CHUNK = "memstab";
    const INFOTEXT = "parameters";
    const TEXT_CHUNKS = ["tEXt", "zTXt", "iTXt"];

    const MAX_TEXT = 1 << 20; // of one text, in bytes and characters; as lib_memstab/badge.py has it
    const MAX_HEAD = 32 << 20; // of what comes before a picture's data
    const MAX_FILE = 2 ** 29;
    const MAX_PARTS = 4096; // chunks or segments before a picture's data

    const EXIF = [0x45, 0x78, 0x69, 0x66, 0, 0];
    const EXIF_FOLDER = 0x8769;
    const USER_COMMENT = 0x9286;

    /** A file that is not as its format has it, or a text that is too long; the message is a key of MemStab.words. */
    class FileError extends Error {}

    /** Bytes of a stream, in the pieces that are asked for. */
    class Source {
        constructor(stream, limit) {
            this.reader = stream.getReader();
            this.limit = limit;
            this.rest = new Uint8Array(0);
        }

        async next() {
            const {done, value} = await this.reader.read();
            if (done) throw new FileError("endsEarly");
            this.rest = value;
        }

        count(length) {
            this.limit -= length;
            if (this.limit < 0) throw new FileError("tooLong");
        }

        async take(length) {
            this.count(length);
            const taken = new Uint8Array(length);
            for (let at = 0; at < length;) {
                if (!this.rest.length) await this.next();
                const piece = this.rest.subarray(0, length - at);
                taken.set(piece, at);
                at += piece.length;
                this.rest = this.rest.subarray(piece.length);
            }
            return taken;
        }

        async skip(length) {
            this.count(length);
            while (length > this.rest.length) {
                length -= this.rest.length;
                await this.next();
            }
            this.rest = this.rest.subarray(length);
        }

        close() {
            this.reader.cancel().catch(() => {});
        }
    }

    const view = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const startsWith = (bytes, start) => start.every((byte, at) => bytes[at] === byte);

    /** Each byte as the character of its number. */
    function latin1(bytes) {
        let text = "";
        for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
        return text;
    }

    const CRC = Uint32Array.from({length: 256}, (_, byte) => {
        for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? 0xedb88320 ^ (byte >>> 1) : byte >>> 1;
        return byte;
    });

    function crc32(...parts) {
        let sum = 0xffffffff;
        for (const part of parts) {
            for (const byte of part) sum = CRC[(sum ^ byte) & 255] ^ (sum >>> 8);
        }
        return (sum ^ 0xffffffff) >>> 0;
    }

    /** What zlib packed; at most MAX_TEXT bytes of it. */
    async function unpack(bytes) {
        const source = new Source(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate")), Infinity);
        const pieces = [];
        let length = 0;
        try {
            for (;;) {
                const {done, value} = await source.reader.read();
                if (done) break;
                length += value.length;
                if (length > MAX_TEXT) throw new FileError("tooLong");
                pieces.push(value);
            }
        } catch (error) {
            throw error instanceof FileError ? error : new FileError("damaged");
        } finally {
            source.close();
        }
        return new Uint8Array(await new Blob(pieces).arrayBuffer());
    }

    /** The text after the keyword of a PNG's text chunk. */
    async function textOf(kind, body) {
        if (kind === "tEXt") return latin1(body);
        if (kind === "zTXt") return latin1(await unpack(body[0] === 0 ? body.subarray(1) : new Uint8Array(0)));
        const language = body.indexOf(0, 2);
        const translated = language < 0 ? -1 : body.indexOf(0, language + 1);
        if (translated < 0) throw new FileError("damaged");
        const text = body.subarray(translated + 1);
        const plain = body[0] ? await unpack(text) : text;
        try {
            return new TextDecoder("utf-8", {fatal: true, ignoreBOM: true}).decode(plain);
        } catch (error) {
            throw new FileError("damaged");
        }
    }

    /** Text chunks before the picture's data, where the WebUI writes them; two of a name count as damaged. */
    async function readPng(source) {
        const found = {};
        await source.skip(8);
        for (let part = 0; part < MAX_PARTS; part++) {
            const head = await source.take(8);
            const length = view(head).getUint32(0);
            const kind = latin1(head.subarray(4));
            if (kind === "IDAT" || kind === "IEND") return found;
            if (!TEXT_CHUNKS.includes(kind)) {
                await source.skip(length + 4);
                continue;
            }
            const start = await source.take(Math.min(length, 80));
            const end = start.indexOf(0);
            const name = latin1(start.subarray(0, Math.max(end, 0)));
            if (name !== CHUNK && name !== INFOTEXT) {
                await source.skip(length - start.length + 4);
                continue;
            }
            if (length > MAX_TEXT + 80 || found[name] !== undefined) {
                found[name] = new FileError(found[name] === undefined ? "tooLong" : "damaged");
                await source.skip(length - start.length + 4);
                continue;
            }
            const rest = await source.take(length - start.length);
            const sum = view(await source.take(4)).getUint32(0);
            if (crc32(head.subarray(4), start, rest) !== sum) {
                found[name] = new FileError("damaged");
                continue;
            }
            const body = new Uint8Array(length - end - 1);
            body.set(start.subarray(end + 1));
            body.set(rest, start.length - end - 1);
            try {
                found[name] = await textOf(kind, body);
            } catch (error) {
                if (!(error instanceof FileError)) throw error;
                found[name] = error;
            }
        }
        return {};
    }

    /** The infotext in EXIF data: its user comment, or nothing. */
    function commentOf(exif) {
        const data = startsWith(exif, EXIF) ? exif.subarray(EXIF.length) : exif;
        const at = view(data);
        const little = data[0] === 0x49;
        const entry = (folder, wanted) => {
            for (let index = 0; index < at.getUint16(folder, little); index++) {
                const place = folder + 2 + 12 * index;
                if (at.getUint16(place, little) === wanted) return place;
            }
            return null;
        };
        try {
            const pointer = entry(at.getUint32(4, little), EXIF_FOLDER);
            const comment = pointer === null ? null : entry(at.getUint32(pointer + 8, little), USER_COMMENT);
            if (comment === null) return undefined;
            const start = at.getUint32(comment + 8, little);
            const bytes = data.subarray(start, start + Math.min(at.getUint32(comment + 4, little), 2 * MAX_TEXT));
            const text = bytes.subarray(8);
            if (latin1(bytes.subarray(0, 7)) !== "UNICODE") return new TextDecoder().decode(text);
            // The WebUI writes the high byte first whatever the file says, other programs keep to that.
            const [high, low] = ["utf-16be", "utf-16le"].map((order) => new TextDecoder(order).decode(text));
            return little && !high.includes("Steps: ") ? low : high;
        } catch (error) {
            if (error instanceof RangeError) return undefined;
            throw error;
        }
    }

    async function readJpeg(source) {
        await source.skip(2);
        for (let part = 0; part < MAX_PARTS; part++) {
            let [sign, marker] = await source.take(2);
            while (sign === 0xff && marker === 0xff) [marker] = await source.take(1); // filled up
            if (sign === 0xff && (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7))) continue; // without content
            // The picture's data begin with DA.
            if (sign !== 0xff || marker === 0xda || marker === 0xd9) return {};
            const length = view(await source.take(2)).getUint16(0) - 2;
            if (length < 0) return {};
            if (marker !== 0xe1) {
                await source.skip(length);
                continue;
            }
            const body = await source.take(length);
            if (startsWith(body, EXIF)) return {[INFOTEXT]: commentOf(body)};
        }
        return {};
    }

    async function readWebp(source) {
        await source.skip(12);
        for (let part = 0; part < MAX_PARTS; part++) {
            const head = await source.take(8);
            const kind = latin1(head.subarray(0, 4));
            const length = view(head).getUint32(4, true);
            if (part === 0 && kind !== "VP8X") return {};
            if (kind === "EXIF") return length > 4 * MAX_TEXT ? {} : {[INFOTEXT]: commentOf(await source.take(length))};
            await source.skip(length + length % 2);
        }
        return {};
    }

    /** The EXIF data lies behind the boxes that tell where. */
    async function readAvif(source) {
        let at = 0;
        for (let part = 0; part < MAX_PARTS; part++) {
            const head = await source.take(8);
            const length = view(head).getUint32(0);
            at += 8;
            if (length < 8) return {}; // to the file's end, or longer than any file that is read
            if (latin1(head.subarray(4)) !== "meta") {
                await source.skip(length - 8);
                at += length - 8;
                continue;
            }
            if (length > MAX_TEXT) return {};
            const place = MemStab.boxes.exifPlace(await source.take(length - 8));
            at += length - 8;
            if (place === null || place.offset < at || place.length < 4 || place.length > 4 * MAX_TEXT) return {};
            await source.skip(place.offset - at + 4); // a number before it says where in it the data begin
            return {[INFOTEXT]: commentOf(await source.take(place.length - 4))};
        }
        return {};
    }

    const FORMATS = [
        {read: readPng, limit: MAX_HEAD, is: (head) => latin1(head.subarray(0, 8)) === "\x89PNG\r\n\x1a\n"},
        {read: readJpeg, limit: MAX_HEAD, is: (head) => startsWith(head, [0xff, 0xd8, 0xff])},
        {
            read: readWebp, // has its EXIF data behind the picture
            limit: MAX_FILE,
            is: (head) => latin1(head.subarray(0, 4)) === "RIFF" && latin1(head.subarray(8)) === "WEBP",
        },
        {read: readAvif, limit: MAX_FILE, is: (head) => /^ftypavi[fs]$/.test(latin1(head.subarray(4)))},
    ];

    /**
     * What a file's bytes say: the badge's JSON and the infotext, each a text, a FileError, or missing.
     *
     * Of a PNG or JPEG nothing is read from the picture's data on. A file that is cut off, or no picture, says nothing.
     */
    async function read(stream) {
        const source = new Source(stream, MAX_FILE);
        try {
            const head = await source.take(12);
            const format = FORMATS.find((one) => one.is(head));
            if (!format) return {};
            const again = new Uint8Array(head.length + source.rest.length);
            again.set(head);
            again.set(source.rest, head.length);
            source.rest = again;
            source.limit = format.limit;
            const found = await format.read(source);
            return {badge: found[CHUNK], infotext: found[INFOTEXT]};
        } catch (error) {
            if (error instanceof FileError) return {};
            throw error;
        } finally {
            source.close();
        }
    }

    MemStab.files = {FileError, MAX_TEXT, read};
})();
