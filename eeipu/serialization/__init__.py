"""Values to bytes and back, for the cache and between processes.

Public: `entry_format` (write_entry, read_header, read_payload: a cache entry's file), `pickles`
(serialize, deserialize: a value for the cache), `transport` (dumps, loads: a value for another
process), `copies` (segments_with_room: a copy in this process), `main_module` (MainModule, home_of:
one script under several names), `library_types` (package_and_name). Behind them: `safe_formats`
(encode, decode), `tensors` and `masked_arrays` (how these are pickled), `shared_memory` (what lies
in the same memory stays there) and `files` (paths have their files with them).
"""
