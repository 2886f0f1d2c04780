from transformers import pipeline

classify = pipeline("zero-shot-image-classification", model="clip")
print(classify("pictures/owl.png", candidate_labels=["an owl", "a guitar"]))
