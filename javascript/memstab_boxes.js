// Where an AVIF file has its EXIF data: boxes within boxes, as lib_memstab/boxes.py reads them. Trusts nothing in them.

(function() {
    const MemStab = globalThis.MemStab = globalThis.MemStab || {};

    /** Numbers of a box's content, one after the other; RangeError where it ends. */
    class Numbers {
        constructor(bytes) {
            this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
            this.at = 0;
        }

        /** The next number of 0, 1, 2, 4 or 8 bytes, high byte first. */
        take(size) {
            let found = 0;
            for (let byte = 0; byte < size; byte++) found = found * 256 + this.view.getUint8(this.at++);
            return found;
        }
    }

    /** Kind and content of the boxes in a box. */
    function* boxes(bytes) {
        for (let at = 0; at + 8 <= bytes.length;) {
            const head = new Numbers(bytes.subarray(at, at + 8));
            const size = head.take(4);
            if (size < 8 || at + size > bytes.length) throw new RangeError("box");
            yield [String.fromCharCode(...bytes.subarray(at + 4, at + 8)), bytes.subarray(at + 8, at + size)];
            at += size;
        }
    }

    /** The number of the item that is EXIF data, in the content of a box `iinf`. */
    function exifItem(content) {
        const list = new Numbers(content);
        list.take(list.take(1) === 0 ? 5 : 7);
        for (const [kind, entry] of boxes(content.subarray(list.at))) {
            const one = new Numbers(entry);
            const version = one.take(1);
            if (kind !== "infe" || version < 2) continue;
            one.take(3);
            const number = one.take(version === 2 ? 2 : 4);
            one.take(2);
            if (one.take(4) === 0x45786966) return number; // "Exif"
        }
        return null;
    }

    /** Offset and length of an item, in the content of a box `iloc`. */
    function placeOf(content, item) {
        const list = new Numbers(content);
        const version = list.take(1);
        list.take(3);
        const sizes = list.take(2);
        const [offsetSize, lengthSize, baseSize, indexSize] = [12, 8, 4, 0].map((shift) => (sizes >> shift) & 15);
        const wide = version === 2 ? 4 : 2;
        const indexed = version === 1 || version === 2;
        for (let left = list.take(wide); left > 0; left--) {
            const number = list.take(wide);
            const method = indexed ? list.take(2) & 15 : 0;
            const elsewhere = list.take(2);
            const base = list.take(baseSize);
            const pieces = list.take(2);
            let place = null;
            for (let piece = 0; piece < pieces; piece++) {
                if (indexed) list.take(indexSize);
                place = {offset: base + list.take(offsetSize), length: list.take(lengthSize)};
            }
            if (number === item) return method || elsewhere || pieces !== 1 ? null : place;
        }
        return null;
    }

    /** Where the EXIF data is that a box `meta` with this content tells, as {offset, length}; null without any. */
    function exifPlace(meta) {
        try {
            const own = Object.fromEntries(boxes(meta.subarray(4)));
            const item = own.iinf ? exifItem(own.iinf) : null;
            return item === null || !own.iloc ? null : placeOf(own.iloc, item);
        } catch (error) {
            if (error instanceof RangeError) return null;
            throw error;
        }
    }

    MemStab.boxes = {exifPlace};
})();
