// Keeps MemStab's tab up to date: when it is opened, while a calibration, a verification or an attack runs, and when
// that has ended.

(function() {
    const EVERY_MS = 2000;
    const PATIENCE_MS = 20000;
    // What can be on its way: the line that tells of it, and the button that asks for the line.
    const WATCHED = [
        {line: "line", tick: "tick", wasBusy: false, asked: {at: "", when: 0}},
        {line: "verify_line", tick: "verify_tick", wasBusy: false, asked: {at: "", when: 0}},
        {line: "attack_line", tick: "attack_tick", wasBusy: false, asked: {at: "", when: 0}},
    ];

    const element = (name) => gradioApp().querySelector(`#memstab_${name}`);

    function isOpen() {
        return get_uiCurrentTabContent()?.id === "tab_memstab";
    }

    function refresh() {
        if (isOpen()) element("refresh")?.click();
    }

    function look(one) {
        const line = gradioApp().querySelector(`#memstab_${one.line} [data-busy]`);
        if (!line || !isOpen()) return;
        const {busy, at} = line.dataset;
        if (busy === "yes") {
            one.wasBusy = true;
            // The last question has been answered, or was lost.
            if (at !== one.asked.at || Date.now() - one.asked.when > PATIENCE_MS) {
                one.asked = {at, when: Date.now()};
                element(one.tick).click();
            }
        } else if (one.wasBusy) {
            // There is a new profile or report, perhaps.
            one.wasBusy = false;
            refresh();
        }
    }

    onUiTabChange(refresh);
    onUiLoaded(() => setInterval(() => WATCHED.forEach(look), EVERY_MS));
})();
