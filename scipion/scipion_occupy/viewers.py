"""*Analyze results* opens the page that OccuPy wrote."""

import webbrowser

import pyworkflow.viewer as viewer

from scipion_occupy.protocols import OccupyProtClasses, OccupyProtRegions, OccupyProtScale


class OccupyViewer(viewer.Viewer):
    """Show the report in the system's browser."""

    _label = "report of OccuPy"
    _targets = [OccupyProtScale, OccupyProtRegions, OccupyProtClasses]
    _environments = [viewer.DESKTOP_TKINTER]

    def _visualize(self, obj, **_):
        page = obj.report()
        if page is None:
            return [self.errorMessage("There is no report yet.")]
        webbrowser.open(page.absolute().as_uri())
        return []
