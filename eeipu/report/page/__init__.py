"""The report of a study: one HTML file that needs no network.

`document` (write_report) puts it together from `sections`; `style.css` and `page.js` go into it.
"""
