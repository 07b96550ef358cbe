"""Telling people what they should know: on the bell of the console, by e-mail, to chat, SMS gateways and other systems.

What is told is decided by pure modules (`kinds`, `alerts`, `preferences`, `escalation`); `telling` writes notices and
messages in the caller's transaction; `sending` carries the messages out, from the jobs process, until each has arrived
or somebody knows that it hasn't. No title, subject or message that leaves the box names a patient: see `kinds`.

For others: `telling.tell` for something that happened (break-glass), `mail.enqueue` for a letter (an invitation).
"""
