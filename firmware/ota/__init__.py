"""Updates over the air (guide, chapter 7).

watch         resident: notices a connection, a notification, and that there is work
agent         takes jobs, has files loaded, decides, reports; imported while there is work
record        the job that is being dealt with, in flash
desk          what the OTA commands do
document      the job document
download      gets a file: stream (MQTT) or web (HTTPS), into a receiver
area          where an image lies: a partition or a file
mailbox       the host's image
header, slots, unpack    the module's own image: of a slot, or a bundle of files
trial         the first run of a new version
signature, certificates, renew    what is believed, and whom
"""
