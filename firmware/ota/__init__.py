"""Updates over the air (guide, chapter 7).

watch          always there: notices a connection, a notification, work left from before
work           runs the parts, each with no more in memory than it needs
agent          takes jobs, refuses them, reports how they have ended
record         the job that is being dealt with, in flash
document, job  what a job says
loading        has a file loaded, proved and made ready
progress       tells the cloud how far that is
download       gets a file, by stream (MQTT) or web (HTTPS), into a receiver
area           where an image lies: a partition, or a file
signature      who has signed it
header, image, slots, partitions, folders, unpack    the module's own image
trial          the first run of a new version
mailbox        the host's image
renew, certificates    certificates over the air
desk           what the OTA commands do
"""
