//! SDXL on candle: the whole public face is here.
