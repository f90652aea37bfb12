// Keeps MemStab's tab up to date: when it is opened, while a calibration runs, and when that has ended.

(function() {
    const EVERY_MS = 2000;
    const PATIENCE_MS = 20000;
    let wasBusy = false;
    let asked = {at: "", when: 0};

    const element = (name) => gradioApp().querySelector(`#memstab_${name}`);

    function isOpen() {
        return get_uiCurrentTabContent()?.id === "tab_memstab";
    }

    function refresh() {
        if (isOpen()) element("refresh")?.click();
    }

    function look() {
        const line = gradioApp().querySelector("#memstab_line [data-busy]");
        if (!line || !isOpen()) return;
        const {busy, at} = line.dataset;
        if (busy === "yes") {
            wasBusy = true;
            // The last question has been answered, or was lost.
            if (at !== asked.at || Date.now() - asked.when > PATIENCE_MS) {
                asked = {at, when: Date.now()};
                element("tick").click();
            }
        } else if (wasBusy) {
            // There is a new profile, perhaps.
            wasBusy = false;
            refresh();
        }
    }

    onUiTabChange(refresh);
    onUiLoaded(() => setInterval(look, EVERY_MS));
})();
