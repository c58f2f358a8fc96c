"""The report of a study: one HTML file that needs no network, or a page that follows the study.

`document` (write_report) puts it together from `sections`; `style.css` and `page.js` go into it.
`live` (LiveReport, serve) serves it while the study runs.
"""
