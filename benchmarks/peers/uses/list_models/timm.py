import timm

print(timm.list_models("*pe_core*"))
