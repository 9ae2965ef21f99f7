"""`make bench`: how fast IoTFlow is on the real servers, and whether it loses anything."""
