// Before anything is drawn: the theme the user chose, else the system's.
try {
  const chosen = localStorage.getItem("occupy-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch { /* no storage: the system's theme it is */ }
