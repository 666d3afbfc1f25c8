// What else there is at this address: in files nothing. `smoll up` gives out its own list instead of this file.
window.smollServices = [];
