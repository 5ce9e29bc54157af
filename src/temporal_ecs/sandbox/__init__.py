"""The local AWS that tecs can be tried and tested on."""
