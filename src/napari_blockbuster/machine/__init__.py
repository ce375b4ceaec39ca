"""The machine below the package: files, errors of disks, system calls, memory, GPUs, signals and versions.

=================  ==================================================================
`errors`           errors that end a step of a job
`disk`             storage errors: their meaning and remedy
`system`           calls of the operating system, with fallbacks
`files`            small files that survive a crash
`limits`, `gpus`   processors, memory and GPUs that this process may use
`freed_memory`     reuse of freed memory
`peak_memory`      measurement of memory
`signals`          clean stop on Ctrl-C and SIGTERM
`units`            quantities as text
`versions`         versions of Python and of packages
=================  ==================================================================
"""
